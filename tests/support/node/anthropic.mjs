// What users of the package `@anthropic-ai/sdk` do.

import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";

import { Sum, Weather, addUp, headersOf } from "./shared.mjs";

const ABORT_AFTER = 3;

export const anthropic = {
  async create(given) {
    const { data, response, request_id } = await client(given).messages.create(message(given)).withResponse();
    return {
      said: textOf(data),
      finish: data.stop_reason,
      model: data.model,
      usage: data.usage,
      requestId: request_id,
      headers: headersOf(response),
    };
  },

  async stream(given) {
    const events = [];
    for await (const event of await client(given).messages.create({ ...message(given), stream: true })) {
      events.push(event);
    }
    const deltas = events.filter((event) => event.type === "content_block_delta");
    const ends = events.filter((event) => event.type === "message_delta");
    return {
      said: deltas.map((event) => event.delta.text).join(""),
      finishes: ends.map((event) => event.delta.stop_reason),
      usages: ends.map((event) => event.usage),
      last: events.at(-1).type,
    };
  },

  async streamHelper(given) {
    const stream = client(given).messages.stream(message(given));
    const deltas = [];
    const costs = []; // the helper's final message has the fields of usage that the package knows, and no other
    stream.on("text", (delta) => deltas.push(delta));
    stream.on("streamEvent", (event) => event.usage && costs.push(event.usage.cost));
    const final = await stream.finalMessage();
    return { said: textOf(final), deltas: deltas.join(""), finish: final.stop_reason, costs };
  },

  async runTools(given) {
    const add = betaZodTool({ name: "add", description: "Adds.", inputSchema: Sum, run: addUp });
    const wanted = { ...message(given), tools: [add], stream: given.streams };
    const runner = client(given).beta.messages.toolRunner(wanted);
    const final = await runner.runUntilDone();
    return { said: textOf(final), roles: runner.params.messages.map(({ role }) => role) };
  },

  async parse(given) {
    const wanted = { output_config: { format: zodOutputFormat(Weather) } };
    return (await client(given).messages.parse({ ...message(given), ...wanted })).parsed_output;
  },

  async parseStream(given) {
    const wanted = { output_config: { format: zodOutputFormat(Weather) } };
    const stream = client(given).messages.stream({ ...message(given), ...wanted });
    return (await stream.finalMessage()).parsed_output;
  },

  async countTokens(given) {
    const { model, messages } = message(given);
    return await client(given).messages.countTokens({ model, messages });
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
    let seen = 0;
    for await (const event of await client(given).messages.create({ ...message(given), stream: true }, options)) {
      seen += event.type === "content_block_delta" ? 1 : 0;
      if (seen === ABORT_AFTER) {
        leaving.abort();
      }
    }
    return { seen };
  },
};

function client({ address, key, fetch, maxRetries }) {
  return new Anthropic({ apiKey: key, baseURL: address, fetch, maxRetries });
}

function message({ model, prompt }) {
  return { model, max_tokens: 1_000, messages: [{ role: "user", content: prompt }] };
}

function textOf({ content }) {
  return content.map((block) => block.text ?? "").join("");
}
