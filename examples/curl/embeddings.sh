#!/usr/bin/env bash
# Turn texts into vectors. The second time the answer is "cached":true and "cost":0.
set -euo pipefail

url=${AI_GATEWAY_URL:-http://127.0.0.1:3007}
key=$AI_GATEWAY_KEY
model=${AI_GATEWAY_MODEL:-text-embedding-3-small}     # "echo" needs no provider key

for _ in 1 2; do
  curl -sS --fail-with-body "$url/api/v1/completions/embeddings" \
    -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
    -d "{\"model\": \"$model\", \"input\": [\"the cat sat on the mat\", \"interest rates rose again\"]}"
  echo
done
