#!/usr/bin/env bash
# Let the model call a function of yours, and give it the result.
set -euo pipefail

url=${AI_GATEWAY_URL:-http://127.0.0.1:3007}
key=$AI_GATEWAY_KEY
model=${AI_GATEWAY_MODEL:-claude-sonnet-5-5}
question=${1:-What is the weather in Paris?}

user="{\"role\": \"user\", \"content\": \"$question\"}"
tools='[{"type": "function", "function": {"name": "get_weather", "description": "The weather in a city, now.",
  "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]'

ask() {
  curl -sS --fail-with-body "$url/api/v1/completions/chat" \
    -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
    -d "{\"model\": \"$model\", \"messages\": [$1], \"tools\": $tools}"
  echo
}

answer=$(ask "$user")
echo "$answer"

# The answer has the call's id. Send the model's message back to it, and the function's result behind it.
call=$(sed -n 's/.*"toolCalls":\[{"id":"\([^"]*\)".*/\1/p' <<<"$answer")
if [ -n "$call" ]; then
  message=$(sed -n 's/.*"message":\({.*}\),"finishReason".*/\1/p' <<<"$answer")
  ask "$user, $message, {\"role\": \"tool\", \"toolCallId\": \"$call\", \"content\": \"18 degrees and sunny\"}"
fi
