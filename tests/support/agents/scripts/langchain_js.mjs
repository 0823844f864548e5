// LangChain.js: an agent with a tool, an object, and a picture. Prints the outcome as JSON.
import { ChatAnthropic } from "@langchain/anthropic";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent, HumanMessage, tool } from "langchain";
import { z } from "zod";

const { address, key, model: name, surface, prompt, scenario, picture, maxRetries } = JSON.parse(process.argv[2]);
const openai = { model: name, apiKey: key, configuration: { baseURL: `${address}/v1` }, maxRetries: maxRetries ?? 0 };
const models = {
  messages: () => new ChatAnthropic({ model: name, apiKey: key, anthropicApiUrl: address, maxRetries: maxRetries ?? 0 }),
  responses: () => new ChatOpenAI({ ...openai, useResponsesApi: true }),
  chat: () => new ChatOpenAI(openai),
};
const model = models[surface]();
const add = tool(({ a, b }) => `${a} + ${b} = ${a + b}`, {
  name: "add",
  description: "Add two numbers",
  schema: z.object({ a: z.number(), b: z.number() }),
});

function told({ messages }) {
  const calls = messages.filter((message) => message.type === "tool").map((message) => message.content);
  return { said: messages.at(-1).text, calls };
}

const input = { messages: [{ role: "user", content: prompt }] };
const agent = () => createAgent({ model, tools: [add], name: "adder" });
const scenarios = {
  agent: async () => told(await agent().invoke(input)),
  stream: async () => {
    let last;
    for await (const state of await agent().stream(input, { streamMode: "values" })) last = state;
    return told(last);
  },
  object: async () => {
    const schema = z.object({ city: z.string(), days: z.number().int().min(1).max(30) });
    return { object: await model.withStructuredOutput(schema, { name: "trip", method: "jsonSchema" }).invoke(prompt) };
  },
  picture: async () => {
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${picture}`, detail: "low" } };
    const message = new HumanMessage({ content: [{ type: "text", text: prompt }, image], name: "a_person" });
    return { said: (await model.invoke([message])).text };
  },
};

try {
  console.log(JSON.stringify({ found: await scenarios[scenario]() }));
} catch (error) {
  console.log(JSON.stringify({ error: { kind: error.name, message: error.message, status: error.status ?? null } }));
}
