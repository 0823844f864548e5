// Vercel's AI SDK: an agent with a tool, an object, and a picture. Prints the outcome as JSON.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { address, key, model: name, surface, prompt, scenario, picture, maxRetries } = JSON.parse(process.argv[2]);
const options = { baseURL: `${address}/v1`, apiKey: key };
const models = {
  messages: () => createAnthropic(options)(name),
  responses: () => createOpenAI(options).responses(name),
  chat: () => createOpenAI(options).chat(name),
  compatible: () => createOpenAICompatible({ ...options, name: "gateway", includeUsage: true })(name),
};
const model = models[surface]();
const add = tool({
  description: "Add two numbers",
  inputSchema: z.object({ a: z.number(), b: z.number() }),
  execute: async ({ a, b }) => `${a} + ${b} = ${a + b}`,
});
const shared = { model, maxRetries: maxRetries ?? 0 };

async function told({ text, finishReason, usage, steps }) {
  const calls = (await steps).flatMap((step) => step.toolResults.map((result) => result.output));
  return { said: await text, finish: await finishReason, calls, tokens: (await usage).outputTokens };
}

const scenarios = {
  agent: async () => told(await generateText({ ...shared, prompt, tools: { add }, stopWhen: stepCountIs(8) })),
  stream: async () => {
    const failures = [];
    const onError = ({ error }) => failures.push(error);
    const result = streamText({ ...shared, prompt, tools: { add }, stopWhen: stepCountIs(8), onError });
    await result.consumeStream();
    if (failures.length) throw failures[0];
    return told(result);
  },
  object: async () => {
    const schema = z.object({ city: z.string(), days: z.number().int().min(1).max(30) });
    return { object: (await generateText({ ...shared, prompt, output: Output.object({ schema }) })).output };
  },
  picture: async () => {
    const content = [{ type: "text", text: prompt }, { type: "file", data: picture, mediaType: "image/png" }];
    return { said: (await generateText({ ...shared, messages: [{ role: "user", content }] })).text };
  },
};

try {
  console.log(JSON.stringify({ found: await scenarios[scenario]() }));
} catch (error) {
  console.log(JSON.stringify({ error: { kind: error.name, message: error.message, status: error.statusCode ?? null } }));
}
