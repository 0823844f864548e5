// Add a provider without a line of code in the gateway: any endpoint that has OpenAI's or Anthropic's API.
//
// The key in AI_GATEWAY_KEY must be an admin key. The provider belongs to its project.

import OpenAI from "openai";

const url = process.env.AI_GATEWAY_URL ?? "http://127.0.0.1:3007";
const key = process.env.AI_GATEWAY_KEY;
const groqUrl = process.env.GROQ_BASE_URL ?? "https://api.groq.com/openai/v1";
const groqKey = process.env.GROQ_API_KEY;

const providers = await call("GET", "/projects/providers");
if (!providers.some(({ name }) => name === "groq")) {
  const groq = { name: "groq", kind: "openai", baseUrl: groqUrl, apiKey: groqKey };
  const added = await call("POST", "/projects/providers", groq);
  console.log(`added ${added.name} at ${added.baseUrl}`);
}

// Its name and a slash stand before the name of the model.
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const completion = await client.chat.completions.create({
  model: "groq/openai/gpt-oss-20b",
  messages: [{ role: "user", content: "What is the capital of France? Answer with one word." }],
});
console.log(completion.choices[0].message.content);

async function call(method, path, body) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const response = await fetch(`${url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) {
    throw new Error(await response.text());
  }
  return (await response.json()).data;
}
