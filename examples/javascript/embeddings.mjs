// Turn texts into vectors. With the cache on, the second call costs nothing.

import OpenAI from "openai";

const url = process.env.AI_GATEWAY_URL ?? "http://127.0.0.1:3007";
const key = process.env.AI_GATEWAY_KEY;
const model = process.env.AI_GATEWAY_MODEL ?? "text-embedding-3-small"; // "echo" needs no provider key
const input = ["the cat sat on the mat", "a kitten lay on the rug", "interest rates rose again"];

// On the vendors' own APIs the cache is off unless a header asks for it.
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, defaultHeaders: { "x-gateway-cache": "on" } });
for (let time = 1; time <= 2; time += 1) {
  const { data, response } = await client.embeddings.create({ model, input }).withResponse();
  const vectors = data.data.map(({ embedding }) => embedding);
  const cost = response.headers.get("x-gateway-cost-usd");
  const cache = response.headers.get("x-gateway-cache");
  console.log(`${vectors.length} vectors of ${vectors[0].length} numbers, cost: ${cost} US dollars, cache: ${cache}`);
}
