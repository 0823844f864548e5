"""Turn texts into vectors. With the cache on, the second call costs nothing."""

import os

from openai import OpenAI

URL = os.environ.get("AI_GATEWAY_URL", "http://127.0.0.1:3007")
KEY = os.environ["AI_GATEWAY_KEY"]
MODEL = os.environ.get("AI_GATEWAY_MODEL", "text-embedding-3-small")  # "echo" needs no provider key
TEXTS = ["the cat sat on the mat", "a kitten lay on the rug", "interest rates rose again"]

# On the vendors' own APIs the cache is off unless a header asks for it.
client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, default_headers={"x-gateway-cache": "on"})
for _ in range(2):
    response = client.embeddings.with_raw_response.create(model=MODEL, input=TEXTS)
    vectors = [one.embedding for one in response.parse().data]
    cost, cache = response.headers["x-gateway-cost-usd"], response.headers["x-gateway-cache"]
    print(f"{len(vectors)} vectors of {len(vectors[0])} numbers, cost: {cost} US dollars, cache: {cache}")
