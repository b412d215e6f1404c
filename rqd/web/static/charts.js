"use strict";
// Draws the charts of a page from the numbers in its section `.charts`; the table there has the
// same numbers, and is all there is without this file.
const hueOf = { raised: "--bad", timed_out: "--warn", crashed: "--violet", out_of_memory: "--blue", refused: "--accent", abandoned: "--good" };
const lengths = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400];
const made = new Map();

const hue = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const add = (a, b) => a.map((value, at) => value + b[at]);
const whole = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function lasting(seconds) {
  if (seconds == null) return "–";
  if (seconds === 0) return "0";
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 60) return `${Number(seconds.toPrecision(3))} s`;
  return seconds < 7200 ? `${Number((seconds / 60).toPrecision(3))} min` : `${Number((seconds / 3600).toPrecision(3))} h`;
}

// Each kind of chart: its layers from the bottom up, each with a name, a colour and values.
const layersOf = {
  ended: (data) => [["failed", "--bad", data.failed], ["succeeded", "--accent", data.succeeded]],
  causes: (data) => Object.entries(data.causes).map(([name, values]) => [name.replaceAll("_", " "), hueOf[name] ?? "--dim", values]),
  wait: (data) => [["p50", "--accent", data.wait.p50], ["p95", "--warn", data.wait.p95]],
  run: (data) => [["p50", "--accent", data.run.p50], ["p95", "--warn", data.run.p95]],
};

function optionsFor(kind, layers, data, width) {
  const isStacked = kind === "ended" || kind === "causes";
  const shown = isStacked ? (value) => (value == null ? "–" : whole.format(value)) : lasting;
  const grid = { stroke: hue("--line"), width: 1 };
  const axis = { stroke: hue("--dim"), font: "11px system-ui, sans-serif", grid, ticks: { show: false } };
  const isLong = data.width_s > 3600;
  const instant = (at) => new Date(at * 1000).toLocaleString([], isLong ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const bars = uPlot.paths.bars({ size: [0.8, 40], align: 1 });
  const series = layers.map(([name, colour, values]) => ({
    label: name,
    stroke: hue(colour),
    fill: isStacked ? hue(colour) : undefined,
    width: isStacked ? 0 : 1.75,
    paths: isStacked ? bars : undefined,
    points: { show: !isStacked && values.filter((one) => one != null).length < 15, size: 5 },
    spanGaps: true,
    // A stack's bars are sums; the legend says the layer's own value.
    value: (_, __, at, index) => shown(index == null ? null : at == null ? null : values[index]),
  }));
  return {
    width,
    height: 150,
    padding: [8, 20, 0, 0],
    cursor: { y: false, points: { show: !isStacked } },
    legend: { live: true },
    scales: {
      x: { range: () => [data.times[0], data.times.at(-1) + data.width_s] },
      y: { range: (_, __, most) => [0, Math.max(isStacked ? 1 : 0.001, (most ?? 0) * 1.08)] },
    },
    axes: [
      { ...axis, grid: { show: false }, space: 70, size: 24, values: (_, ticks) => ticks.map(instant) },
      { ...axis, size: 52, space: 34, incrs: isStacked ? undefined : lengths, values: (_, ticks) => ticks.map(isStacked ? (one) => (Number.isInteger(one) ? whole.format(one) : "") : lasting) },
    ],
    // The upper layers are drawn first, the lower ones over them.
    series: [{ value: (_, at) => (at == null ? "" : new Date(at * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" })), label: "" }, ...(isStacked ? series.reverse() : series)],
  };
}

function columns(kind, layers, data) {
  if (kind !== "ended" && kind !== "causes") return [data.times, ...layers.map(([, , values]) => values)];
  let below = data.times.map(() => 0);
  const sums = layers.map(([, , values]) => (below = add(below, values)));
  return [data.times, ...sums.reverse()];
}

function draw() {
  const section = document.querySelector(".charts[data-series]");
  if (!section) return;
  const data = JSON.parse(section.dataset.series);
  const look = hue("--ink");
  for (const figure of section.querySelectorAll("figure[data-chart]")) {
    const plot = figure.querySelector(".plot");
    const kind = figure.dataset.chart;
    const layers = layersOf[kind](data);
    const width = Math.floor(plot.clientWidth);
    if (!layers.length || width < 50) continue;
    const state = JSON.stringify([layers.map(([name]) => name), look, width, section.dataset.series]);
    const chart = made.get(kind);
    if (chart?.state === state) {
      // The page was renewed around it.
      if (chart.root.parentNode !== plot) plot.replaceChildren(chart.root);
      continue;
    }
    chart?.destroy();
    plot.replaceChildren();
    const fresh = new uPlot(optionsFor(kind, layers, data, width), columns(kind, layers, data), plot);
    fresh.state = state;
    made.set(kind, fresh);
  }
}

draw();
document.addEventListener("rqd:shown", draw);
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
