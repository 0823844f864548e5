#!/usr/bin/env bash
# Add a provider without a line of code in the gateway: any endpoint that has OpenAI's or Anthropic's API.
# The key in AI_GATEWAY_KEY must be an admin key. The provider belongs to its project.
set -euo pipefail

url=${AI_GATEWAY_URL:-http://127.0.0.1:3007}
key=$AI_GATEWAY_KEY
groq_url=${GROQ_BASE_URL:-https://api.groq.com/openai/v1}

# A second run is told that there is a provider of this name, and goes on.
curl -sS -X POST "$url/api/v1/projects/providers" \
  -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d "{\"name\": \"groq\", \"kind\": \"openai\", \"baseUrl\": \"$groq_url\", \"apiKey\": \"$GROQ_API_KEY\"}"
echo

# Its name and a slash stand before the name of the model.
curl -sS --fail-with-body "$url/api/v1/completions/chat" \
  -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d '{"model": "groq/openai/gpt-oss-20b", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'
echo
