#!/usr/bin/env bash
# Run any agent that reads OPENAI_BASE_URL or ANTHROPIC_BASE_URL on a key of its own, with a budget:
#   ./agent.sh COMMAND [ARGUMENTS]
# The key in AI_GATEWAY_KEY must be an admin key. The agent never sees it.
set -euo pipefail

url=${AI_GATEWAY_URL:-http://127.0.0.1:3007}
admin_key=$AI_GATEWAY_KEY
budget=${AGENT_BUDGET:-0.50}     # US dollars

call() { # METHOD PATH [BODY]
  curl -sS --fail-with-body -X "$1" "$url/api/v1$2" \
    -H "Authorization: Bearer $admin_key" -H "Content-Type: application/json" ${3:+-d "$3"}
  echo
}

issued=$(call POST /projects/api-keys "{\"name\": \"agent\", \"dailyBudget\": $budget, \"concurrencyLimit\": 2}")
key=$(sed -n 's/.*"apiKey":"\([^"]*\)".*/\1/p' <<<"$issued")
id=$(sed -n 's/.*"data":{"id":"\([^"]*\)".*/\1/p' <<<"$issued")

status=0
env -u AI_GATEWAY_KEY \
  OPENAI_BASE_URL="$url/v1" OPENAI_API_KEY="$key" ANTHROPIC_BASE_URL="$url" ANTHROPIC_API_KEY="$key" \
  "$@" || status=$?

echo "what the agent spent:"
call GET "/usage/costs?keyId=$id"
call DELETE "/projects/api-keys/$id"
exit $status
