#!/usr/bin/env bash
# Give a key a budget of its own. A request that does not fit is refused before a provider is called.
# The key in AI_GATEWAY_KEY must be an admin key; the first key of a project is one.
set -euo pipefail

url=${AI_GATEWAY_URL:-http://127.0.0.1:3007}
admin_key=$AI_GATEWAY_KEY

call() { # KEY METHOD PATH [BODY]
  curl -sS -X "$2" "$url/api/v1$3" -H "Authorization: Bearer $1" -H "Content-Type: application/json" ${4:+-d "$4"}
  echo
}

issued=$(call "$admin_key" POST /projects/api-keys '{"name": "a tenth of a cent a day", "dailyBudget": 0.001}')
key=$(sed -n 's/.*"apiKey":"\([^"]*\)".*/\1/p' <<<"$issued")
id=$(sed -n 's/.*"data":{"id":"\([^"]*\)".*/\1/p' <<<"$issued")
echo "issued $id"

# The model `echo` is built in and has a price, so this works without a provider key.
messages='[{"role": "user", "content": "Hello!"}]'
echo "100 tokens fit:"
call "$key" POST /completions/chat "{\"model\": \"echo\", \"messages\": $messages, \"maxTokens\": 100}"
echo "1000 tokens do not fit:"
call "$key" POST /completions/chat "{\"model\": \"echo\", \"messages\": $messages, \"maxTokens\": 1000}"
echo "what the key has spent, and what remains:"
call "$key" GET /usage/budget

call "$admin_key" DELETE "/projects/api-keys/$id"
