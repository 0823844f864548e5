#!/usr/bin/env bash
# Ask a model with curl: by the gateway's own API, which has a cache, and by the vendors' APIs.
set -euo pipefail

url=${AI_GATEWAY_URL:-http://127.0.0.1:3007}
key=$AI_GATEWAY_KEY
model=${AI_GATEWAY_MODEL:-gpt-5.4-mini}          # "echo" needs no provider key
claude=${AI_GATEWAY_MODEL:-claude-sonnet-5-5}
question='[{"role": "user", "content": "What is the capital of France? Answer with one word."}]'

# The second time it is "cached":true and "cost":0.
for _ in 1 2; do
  curl -sS --fail-with-body "$url/api/v1/completions/chat" \
    -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
    -d "{\"model\": \"$model\", \"messages\": $question}"
  echo
done

# OpenAI's API. Any model, whoever makes it.
curl -sS --fail-with-body "$url/v1/chat/completions" \
  -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d "{\"model\": \"$claude\", \"messages\": $question}"
echo

# Anthropic's API.
curl -sS --fail-with-body "$url/v1/messages" \
  -H "x-api-key: $key" -H "anthropic-version: 2023-06-01" -H "Content-Type: application/json" \
  -d "{\"model\": \"$claude\", \"max_tokens\": 1000, \"messages\": $question}"
echo
