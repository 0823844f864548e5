"use strict";
// What the pages do beyond links and forms: charts from their tables, copying, filters that show at once. Each page
// works without this file.

const PLOT_HEIGHT_PX = 200;
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const DOLLARS = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumSignificantDigits: 4 });
const WRITTEN = {
  usd: (value) => DOLLARS.format(value),
  count: (value) => COMPACT.format(value),
  ms: (value) => (value < 10 ? `${COMPACT.format(value)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${COMPACT.format(value / 1000)} s`),
  share: (value) => `${Math.round(value * 10) / 10} %`,
};
const HOUR_S = 3600;
const DAY_S = 86400;
const LONG_S = 300 * DAY_S;
const TICK_EVERY_PX = 60;
const AXIS_PX = { least: 56, beside: 16, letter: 7 };
const TIME_STEPS_S = [1, 2, 3, 6, 12, 24, 2 * 24, 3 * 24, 4 * 24, 7 * 24, 14 * 24, 28 * 24, 56 * 24, 91 * 24, 182 * 24, 364 * 24].map((hours) => hours * HOUR_S);
const DAYS = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const MONTHS = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });
const DATES = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeZone: "UTC" });
const MOMENTS = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "short", timeZone: "UTC" });
const WHOLE_STEPS = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((one) => one * 10 ** power)).flat();
const HOURS = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
const plots = new Map();

// As wide as the longest of its labels.
function axisWidth(_, labels) {
  return Math.max(AXIS_PX.least, AXIS_PX.beside + AXIS_PX.letter * Math.max(0, ...(labels ?? []).map((label) => label.length)));
}

// The times that have a tick: of the figures' own, as many as the width has room for.
function timeTicks(times) {
  const stepS = times.length > 1 ? times[1] - times[0] : DAY_S;
  return (plot, _, first, last) => {
    const room = Math.max(1, Math.floor(plot.bbox.width / devicePixelRatio / TICK_EVERY_PX));
    const everyS = TIME_STEPS_S.find((one) => one >= stepS && (last - first) / one <= room) ?? TIME_STEPS_S.at(-1);
    const shown = times.filter((at) => at >= first && at <= last);
    // within a day from midnight on; days from the last one back, which is the one that is looked for
    return everyS < DAY_S ? shown.filter((at) => at % everyS === 0) : shown.filter((at) => (times.at(-1) - times.at(-1) % DAY_S - at) % everyS === 0);
  };
}

// Days by their date, of long times by their month; and within a day hours: the day that begins has its date.
function writeTimes(_, times) {
  const isLong = times.length > 1 && times.at(-1) - times[0] >= LONG_S;
  return times.map((at) => (at % DAY_S !== 0 ? HOURS : isLong ? MONTHS : DAYS).format(at * 1000));
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function readFigures(table) {
  const rows = [...table.tBodies[0].rows];
  const columns = [rows.map((row) => Number(row.cells[0].dataset.at))];
  const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent);
  names.forEach((_, i) => {
    columns.push(rows.map((row) => (row.cells[i + 1].dataset.value === "" ? null : Number(row.cells[i + 1].dataset.value))));
  });
  return { names, columns };
}

function draw(plot) {
  const table = document.getElementById(plot.dataset.figures);
  if (!window.uPlot || !table || !table.tBodies[0].rows.length) return;
  plots.get(plot)?.destroy();
  const { names, columns } = readFigures(table);
  const write = WRITTEN[plot.dataset.unit];
  const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const bars = plot.dataset.kind === "bars" ? window.uPlot.paths.bars({ size: [0.7, 60] }) : undefined;
  const series = names.map((label, i) => ({
    label,
    stroke: color(`--series-${(i % 6) + 1}`),
    width: 1.5,
    points: { show: columns[i + 1].filter((value) => value != null).length < 2 },
    ...(bars ? { paths: bars, fill: color(`--series-${(i % 6) + 1}`), width: 0 } : {}),
    value: (_, value) => (value == null ? "–" : write(value)),
  }));
  const halfS = (columns[0].length > 1 ? columns[0][1] - columns[0][0] : DAY_S) / 2;
  plots.set(plot, new window.uPlot({
    width: plot.clientWidth,
    height: PLOT_HEIGHT_PX,
    tzDate: (at) => window.uPlot.tzDate(new Date(at * 1000), "UTC"),
    cursor: { drag: { x: false, y: false } },
    scales: { ...(bars ? { x: { range: (_, first, last) => [first - halfS, last + halfS] } } : {}), y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } },
    axes: [{ ...axis, splits: timeTicks(columns[0]), values: writeTimes }, {
      ...axis, size: axisWidth, values: (_, ticks) => ticks.map(write), ...(plot.dataset.unit === "count" ? { incrs: WHOLE_STEPS } : {}),
    }],
    series: [{ label: "UTC", value: (_, at) => (at == null ? "–" : (halfS > DAY_S / 2 ? "week from " : "") + (halfS < DAY_S / 2 ? MOMENTS : DATES).format(at * 1000)) }, ...series],
    hooks: { ready: [showLast], setCursor: [(chart) => { if (chart.cursor.idx == null) showLast(chart); }] },
  }, columns, plot));
}

// Without a pointer on the chart, its legend has the figures of the last day or hour.
function showLast(chart) {
  chart.setLegend({ idx: chart.data[0].length - 1 }, false);
}

function drawAll() {
  for (const [plot, chart] of plots) {
    if (!plot.isConnected) {
      chart.destroy();
      plots.delete(plot);
    }
  }
  document.querySelectorAll(".plot[data-figures]").forEach(draw);
}

function prepare(root) {
  root.querySelectorAll("[data-copy]").forEach((button) => { button.hidden = !navigator.clipboard; });
  root.querySelectorAll("form[data-submit-on-change] > button").forEach((button) => { button.hidden = true; });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
});

document.addEventListener("change", (event) => {
  event.target.closest("form[data-submit-on-change]")?.requestSubmit();
});

// The playground: the answer as it is written, its cost and latency as it ends.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    text += read.value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function element(name, kind, text) {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

function link(address, text) {
  const made = element("a", "", text);
  made.href = address;
  return made;
}

// What went wrong, and where it leads: to the budget that refused, to the request.
function problem(error) {
  const links = (error.links || []).flatMap((one, i) => [...(i ? [" · "] : []), link(one.address, one.text)]);
  const onward = element("p", "", "");
  onward.append(...links);
  return [element("p", "notice bad", error.message), ...(links.length ? [onward] : [])];
}

async function tryModel(form) {
  const place = form.querySelector("[data-answer]");
  const answer = element("pre", "wrapped", "");
  const note = element("p", "muted", "Waiting…");
  place.replaceChildren(answer, note);
  const startedMs = performance.now();
  let firstMs = null;
  const fail = (error) => place.replaceChildren(...(answer.textContent ? [answer] : []), ...problem(error));
  const response = await fetch(form.action, {
    method: "POST", body: new URLSearchParams(new FormData(form)), headers: { accept: "text/event-stream" },
  });
  if (!(response.headers.get("content-type") || "").startsWith("text/event-stream")) {
    const refusal = await response.json().catch(() => null);
    return fail(refusal?.error ?? { message: `The gateway answered ${response.status}: load the page again.` });
  }
  for await (const event of events(response)) {
    if (event.error) return fail(event.error);
    const words = (event.choices || []).map((choice) => choice.delta?.content ?? "").join("");
    if (words) {
      firstMs ??= performance.now() - startedMs;
      answer.textContent += words;
      note.textContent = `First words after ${WRITTEN.ms(firstMs)}`;
    }
    if (event.usage) {
      const cost = event.cost == null ? "unknown cost" : DOLLARS.format(event.cost);
      note.textContent = `${cost}${event.cached ? " (from the cache)" : ""} · ${WRITTEN.ms(event.latencyMs)}${
        firstMs == null ? "" : `, first words here after ${WRITTEN.ms(firstMs)}`} · ${event.usage.promptTokens} tokens in, ${event.usage.completionTokens} out · ${
        response.headers.get("x-gateway-provider")} · `;
      const id = response.headers.get("x-request-id");
      note.append(link(`/requests/${id}`, id));
    }
  }
}

document.addEventListener("submit", async (event) => {
  if (!event.target.matches("form[data-playground]")) return;
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  try {
    await tryModel(event.target);
  } catch (error) {
    event.target.querySelector("[data-answer]").replaceChildren(element("p", "notice bad", `The gateway cannot be reached: ${error.message}`));
  } finally {
    button.disabled = false;
  }
});

// On a telephone the menu is wider than the screen: the current page's entry is to be seen.
function showCurrentPage() {
  const menu = document.querySelector(".head nav");
  const current = menu?.querySelector("[aria-current]");
  if (current) menu.scrollLeft = current.offsetLeft - (menu.clientWidth - current.offsetWidth) / 2;
}

prepare(document);
showCurrentPage();
drawAll();
document.addEventListener("htmx:afterSwap", (event) => { prepare(event.detail.target); drawAll(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
let resized = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resized);
  resized = requestAnimationFrame(() => {
    showCurrentPage();
    plots.forEach((chart, plot) => chart.setSize({ width: plot.clientWidth, height: PLOT_HEIGHT_PX }));
  });
});
