// Give a key a budget of its own. A request that does not fit is refused before a provider is called.
//
// The key in AI_GATEWAY_KEY must be an admin key; the first key of a project is one.

import OpenAI from "openai";

const url = process.env.AI_GATEWAY_URL ?? "http://127.0.0.1:3007";
const adminKey = process.env.AI_GATEWAY_KEY;

const key = await call(adminKey, "POST", "/projects/api-keys", { name: "a tenth of a cent a day", dailyBudget: 0.001 });
console.log(`issued ${key.id}: ${key.dailyBudget} US dollars a day`);

// The model `echo` is built in and has a price, so this works without a provider key.
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key.apiKey });
const messages = [{ role: "user", content: "Hello!" }];
const completion = await client.chat.completions.create({ model: "echo", messages, max_tokens: 100 });
const { content } = completion.choices[0].message;
console.log(`100 tokens fit: '${content}' cost ${completion.usage.cost.toFixed(6)} US dollars`);
try {
  await client.chat.completions.create({ model: "echo", messages, max_tokens: 1000 });
} catch (refusal) {
  console.log(`1000 tokens do not fit: ${refusal.status} ${refusal.code}`);
}

const { spent, limit, remaining } = (await call(key.apiKey, "GET", "/usage/budget")).daily;
const [shown, of, left] = [spent, limit, remaining].map((dollars) => dollars.toFixed(6));
console.log(`spent ${shown} of ${of} US dollars, ${left} remain`);
await call(adminKey, "DELETE", `/projects/api-keys/${key.id}`);

async function call(apiKey, method, path, body) {
  const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
  const response = await fetch(`${url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) {
    throw new Error(await response.text());
  }
  return (await response.json()).data;
}
