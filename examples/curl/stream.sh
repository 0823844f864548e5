#!/usr/bin/env bash
# Print an answer while the model writes it, as Server-Sent Events. The last event before [DONE] has the cost.
set -euo pipefail

url=${AI_GATEWAY_URL:-http://127.0.0.1:3007}
key=$AI_GATEWAY_KEY
model=${AI_GATEWAY_MODEL:-claude-sonnet-5-5}     # "echo" needs no provider key

curl -sS -N --fail-with-body "$url/api/v1/completions/chat" \
  -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d @- <<END
{"model": "$model", "stream": true, "messages": [{"role": "user", "content": "Count from one to five, in words."}]}
END
