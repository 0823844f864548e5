// Run an agent on a key of its own: with a budget, for one model only, and gone when the agent is done.
//
// The key in AI_GATEWAY_KEY must be an admin key. The agent never sees it.

import OpenAI from "openai";

const url = process.env.AI_GATEWAY_URL ?? "http://127.0.0.1:3007";
const adminKey = process.env.AI_GATEWAY_KEY;
const model = process.env.AI_GATEWAY_MODEL ?? "gpt-5.4-mini";
const budget = Number(process.env.AGENT_BUDGET ?? "0.50"); // US dollars
const task = process.argv[2] ?? "In which month from October to December did we spend most?";
const maxSteps = 10;

const expenses = { October: "1,200 dollars", November: "950 dollars", December: "1,800 dollars" };
const getExpenses = {
  name: "get_expenses",
  description: "What the company spent in a month.",
  parameters: { type: "object", properties: { month: { type: "string" } }, required: ["month"] },
  parse: JSON.parse,
  function({ month }) {
    const result = expenses[month] ?? "unknown";
    console.log(`get_expenses(${month}) = ${result}`);
    return result;
  },
};

const limits = { dailyBudget: budget, models: [model], rateLimit: 60, concurrencyLimit: 2 };
const key = await call("POST", "/projects/api-keys", { name: "agent", ...limits });
const agent = new OpenAI({ baseURL: `${url}/v1`, apiKey: key.apiKey });

try {
  const runner = agent.chat.completions.runTools(
    {
      model,
      max_completion_tokens: 1000,
      messages: [{ role: "user", content: task }],
      tools: [{ type: "function", function: getExpenses }],
    },
    { maxChatCompletions: maxSteps },
  );
  console.log(await runner.finalContent());
} catch (error) {
  if (error.code !== "insufficient_quota") {
    throw error;
  }
  console.log("stopped by its budget:", error.message);
}

const { totalCost } = await call("GET", `/usage/costs?keyId=${key.id}`);
console.log(`the agent spent ${totalCost.toFixed(6)} of ${budget.toFixed(6)} US dollars`);
await call("DELETE", `/projects/api-keys/${key.id}`);

async function call(method, path, body) {
  const headers = { authorization: `Bearer ${adminKey}`, "content-type": "application/json" };
  const response = await fetch(`${url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) {
    throw new Error(await response.text());
  }
  return (await response.json()).data;
}
