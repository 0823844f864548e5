// What users of the package `openai` do.

import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";

import { Sum, Weather, addUp, headersOf } from "./shared.mjs";

const ABORT_AFTER = 3;

export const openai = {
  async create(given) {
    const { data, response, request_id } = await client(given).chat.completions.create(chat(given)).withResponse();
    const [choice] = data.choices;
    return {
      said: choice.message.content,
      finish: choice.finish_reason,
      model: data.model,
      usage: data.usage,
      requestId: request_id,
      headers: headersOf(response),
    };
  },

  async stream(given) {
    const asksUsage = given.asksUsage ? { stream_options: { include_usage: true } } : {};
    const stream = await client(given).chat.completions.create({ ...chat(given), stream: true, ...asksUsage });
    const chunks = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
    }
    const choices = chunks.flatMap((chunk) => chunk.choices);
    return {
      said: choices.map((choice) => choice.delta.content ?? "").join(""),
      finishes: choices.map((choice) => choice.finish_reason).filter(Boolean),
      usages: chunks.map((chunk) => chunk.usage).filter(Boolean),
    };
  },

  async streamHelper(given) {
    const runner = client(given).chat.completions.stream({ ...chat(given), stream_options: { include_usage: true } });
    const deltas = [];
    runner.on("content", (delta) => deltas.push(delta));
    const { choices, usage } = await runner.finalChatCompletion();
    const [{ message, finish_reason }] = choices;
    return { said: message.content, deltas: deltas.join(""), finish: finish_reason, costs: [usage.cost] };
  },

  async runTools(given) {
    const add = zodFunction({ name: "add", description: "Adds.", parameters: Sum, function: addUp });
    const runner = client(given).chat.completions.runTools({ ...chat(given), tools: [add], stream: given.streams });
    const said = await runner.finalContent();
    return { said, roles: runner.messages.map((message) => message.role) };
  },

  async parse(given) {
    const wanted = { response_format: zodResponseFormat(Weather, "weather") };
    const found = await client(given).chat.completions.parse({ ...chat(given), ...wanted });
    return found.choices[0].message.parsed;
  },

  async parseStream(given) {
    const wanted = { response_format: zodResponseFormat(Weather, "weather") };
    const runner = client(given).chat.completions.stream({ ...chat(given), ...wanted });
    return (await runner.finalChatCompletion()).choices[0].message.parsed;
  },

  async embeddings(given) {
    const found = await client(given).embeddings.create({ model: given.model, input: given.input });
    return { vectors: found.data.map(({ embedding }) => Array.from(embedding)), usage: found.usage };
  },

  async respond(given) {
    const found = await client(given).responses.create({ model: given.model, input: given.prompt });
    return { said: found.output_text, status: found.status, usage: found.usage, requestId: found._request_id };
  },

  async respondStream(given) {
    const stream = await client(given).responses.create({ model: given.model, input: given.prompt, stream: true });
    const events = [];
    for await (const event of stream) {
      events.push(event);
    }
    return {
      said: events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join(""),
      numbers: events.map((event) => event.sequence_number),
      last: events.at(-1),
    };
  },

  async respondStreamHelper(given) {
    const found = await client(given).responses.stream({ model: given.model, input: given.prompt }).finalResponse();
    return { said: found.output_text, usage: found.usage };
  },

  async respondParse(given) {
    const text = { format: zodTextFormat(Weather, "weather") };
    return (await client(given).responses.parse({ model: given.model, input: given.prompt, text })).output_parsed;
  },

  async models(given) {
    const names = [];
    for await (const model of client(given).models.list()) {
      names.push(model.id);
    }
    return { names, one: (await client(given).models.retrieve(given.model)).id };
  },

  async abort(given) {
    const leaving = new AbortController();
    const options = { signal: leaving.signal };
    const stream = await client(given).chat.completions.create({ ...chat(given), stream: true }, options);
    let seen = 0;
    for await (const _ of stream) {
      seen += 1;
      if (seen === ABORT_AFTER) {
        leaving.abort();
      }
    }
    return { seen };
  },
};

function client({ address, key, fetch, maxRetries }) {
  return new OpenAI({ apiKey: key, baseURL: `${address}/v1`, fetch, maxRetries });
}

function chat({ model, prompt }) {
  return { model, messages: [{ role: "user", content: prompt }] };
}
