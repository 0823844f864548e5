// Print an answer while the model writes it. The last chunk has the usage and the cost.

import OpenAI from "openai";

const url = process.env.AI_GATEWAY_URL ?? "http://127.0.0.1:3007";
const key = process.env.AI_GATEWAY_KEY;
const model = process.env.AI_GATEWAY_MODEL ?? "claude-sonnet-5-5"; // "echo" needs no provider key

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Count from one to five, in words." }],
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? "");
  if (chunk.usage) {
    console.log(`\ncost: ${chunk.usage.cost.toFixed(8)} US dollars`);
  }
}
