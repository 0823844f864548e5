// Let the model call a function of yours, and give it the result. The same code works with every vendor's models.

import OpenAI from "openai";

const url = process.env.AI_GATEWAY_URL ?? "http://127.0.0.1:3007";
const key = process.env.AI_GATEWAY_KEY;
const model = process.env.AI_GATEWAY_MODEL ?? "claude-sonnet-5-5";
const question = process.argv[2] ?? "What is the weather in Paris?";

const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city, now.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

// A real one would ask a weather service.
function getWeather({ city }) {
  return `18 degrees and sunny in ${city}`;
}

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const messages = [{ role: "user", content: question }];
let answer = await ask();

if (answer.tool_calls) {
  messages.push({ role: "assistant", content: answer.content, tool_calls: answer.tool_calls });
  for (const call of answer.tool_calls) {
    const result = getWeather(JSON.parse(call.function.arguments));
    console.log(`${call.function.name}(${call.function.arguments}) = ${result}`);
    messages.push({ role: "tool", tool_call_id: call.id, content: result });
  }
  answer = await ask();
}

console.log(answer.content);

async function ask() {
  const completion = await client.chat.completions.create({ model, messages, tools: [weather] });
  return completion.choices[0].message;
}
