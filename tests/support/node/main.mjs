// Runs scenarios with the vendors' packages. A line in: {surface, scenario, address, key, …}; a line out: what came of
// it. With `times` a scenario is run so many times at once, and what it found is a list.

import { createInterface } from "node:readline";

import { anthropic } from "./anthropic.mjs";
import { openai } from "./openai.mjs";

const SCENARIOS = { anthropic, openai };
const PATIENCE_MS = 60_000;

for await (const line of createInterface({ input: process.stdin })) {
  const { surface, scenario, times, ...given } = JSON.parse(line);
  const attempts = [];
  const run = () => SCENARIOS[surface][scenario]({ ...given, fetch: recorded(attempts) });
  const outcome = await outcomeOf(times ? Promise.all(Array.from({ length: times }, run)) : run());
  process.stdout.write(`${JSON.stringify({ ...outcome, attempts })}\n`);
}

// What a scenario found, or the error that its package threw.
async function outcomeOf(scenario) {
  let timer;
  const patience = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the scenario takes too long")), PATIENCE_MS);
  });
  try {
    return { found: await Promise.race([scenario, patience]) };
  } catch (error) {
    const { status, code, param, requestID, message, type } = error;
    return { error: { kind: error.constructor.name, status, code, param, requestId: requestID, message, type } };
  } finally {
    clearTimeout(timer);
  }
}

// A fetch that notes the status of every attempt, and which retry the package says that it is.
function recorded(attempts) {
  return async (url, init) => {
    const response = await fetch(url, init);
    attempts.push({
      status: response.status,
      retry: Number(new Headers(init.headers).get("x-stainless-retry-count")),
      retryAfter: response.headers.get("retry-after"),
    });
    return response;
  };
}
