// What both packages are given, and how an answer's headers are told.

import { z } from "zod";

export const Sum = z.object({ a: z.number(), b: z.number() });
export const Weather = z.object({ city: z.string(), days: z.number().int() });

export function addUp({ a, b }) {
  return `${a} + ${b} = ${a + b}`;
}

export function headersOf(response) {
  return Object.fromEntries(response.headers);
}
