// Ask a model through the gateway, with OpenAI's SDK and with Anthropic's. Only the base URL and the key are new.

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const url = process.env.AI_GATEWAY_URL ?? "http://127.0.0.1:3007";
const key = process.env.AI_GATEWAY_KEY;
const model = process.env.AI_GATEWAY_MODEL; // "echo" needs no provider key
const messages = [{ role: "user", content: "What is the capital of France? Answer with one word." }];

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const completion = await openai.chat.completions.create({ model: model ?? "gpt-5.4-mini", messages });
console.log("OpenAI's SDK:", completion.choices[0].message.content);
console.log(`cost: ${completion.usage.cost.toFixed(8)} US dollars`);

// Every model works with either SDK: this request goes to Anthropic, or to any other model that you name here.
const anthropic = new Anthropic({ baseURL: url, apiKey: key });
const message = await anthropic.messages.create({ model: model ?? "claude-sonnet-5-5", max_tokens: 1000, messages });
console.log("Anthropic's SDK:", message.content.map((block) => block.text ?? "").join(""));
console.log(`cost: ${message.usage.cost.toFixed(8)} US dollars`);
