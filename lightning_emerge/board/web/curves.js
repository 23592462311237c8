// Curves over steps, with the intervals in which tokens, layers and parts emerged.

import { depthColour, tokenColour, tokenShape } from "./colour.js";
import { digits } from "./dom.js";
import { clip } from "./matrix.js";
import { axisNames, countOf, knownRange, labelOf } from "./runs.js";
import { countTo, place, stepAt, nearest, ticks } from "./steps.js";

const LEFT = 52;
const RIGHT = 92;
const TOP = 12;
const PLOT = 230;
const LANE = 7;
const FOOT = 34;
const MOST = 24;

/** Whether a measure can be drawn as lines: one a position of an axis, in the layer that is chosen if there are layers. */
export function isCurve(measure) {
  const names = axisNames(measure);
  const counts = measure.axes.map(countOf);
  if (names.length < 2) return (counts[0] ?? 1) <= MOST;
  return names.length === 2 && names[0] === "layer" && names[1] !== "layer_b" && counts[1] <= MOST;
}

const names = (run) => run.measures(isCurve);
const FIRST = ["bank_confidence", "bank_accuracy"];

function chosen(run, state) {
  const all = names(run);
  return all.find((name) => name === state.curves) ?? FIRST.find((name) => all.includes(name)) ?? all[0];
}

/** The events that belong to the lines of a measure. */
function eventsOf(run, name, axis) {
  if (!axis) return [];
  const groups = axis.name === "feature" || axis.name === "part" ? ["part", "pair", "conjunction"] : [axis.name];
  const fits = (event) => groups.includes(event.group) && Number.isFinite(event.step);
  return run.info.events.filter((event) => fits(event) && (groups.length > 1 || event.measure.startsWith(name)));
}

const lineAxis = (measure) => measure.axes.at(-1);

export const curvesView = {
  id: "curves",
  title: "Learning and emergence",
  missing: (run) => (names(run).length ? "" : "This run has recorded no curves. A CategoryProbe records how well each token is known (configs/vgg5.yaml)."),
  choices({ run, state, layer }) {
    const name = chosen(run, state);
    const found = [{ key: "curves", label: "Measure", value: name, options: names(run).map((one) => [one, one]) }];
    const measure = run.measure(name);
    if (measure.axes.length === 2) {
      const { labels } = measure.axes[0];
      found.push({ key: "layer", label: "Layer", value: labels.includes(layer) ? layer : labels.at(-1), options: labels.map((one) => [one, one]) });
    }
    return found;
  },
  about({ run, state }) {
    const name = chosen(run, state);
    const measure = run.measure(name);
    const axis = lineAxis(measure);
    const range = knownRange(measure.unit) ?? measure.range;
    const span = range && !knownRange(measure.unit.replace(/^[^\d-]*/, "")) ? `${digits(range[0])} to ${digits(range[1])}` : "";
    const words = [measure.unit === "1" ? "" : measure.unit, span].filter(Boolean).join(", ");
    const bars = eventsOf(run, name, axis).length ? " A bar below says when each emerged: its mark is the step, its length the 95% interval." : "";
    return `${measure.about}${words ? ` (${words})` : ""}: ${axis ? `one line for each ${axis.name}` : "one line"}, over optimizer steps. The upright line is the step that is shown.${bars}`;
  },
  height: ({ run, state }) => {
    const name = chosen(run, state);
    return TOP + PLOT + FOOT + LANE * eventsOf(run, name, lineAxis(run.measure(name))).length;
  },
  draw(pen, scene, width) {
    const { run, runs, state, ink, soft, line } = scene;
    const name = chosen(run, state);
    const measure = run.measure(name);
    const got = run.series(name);
    scene.fresh = got.fresh;
    scene.note = got.error ?? "";
    if (!got.value) return;
    const last = Math.max(...runs.map((one) => one.steps.at(-1)));
    const wide = width - LEFT - RIGHT;
    const lines = linesOf(scene, measure, got.value);
    const [low, high] = rangeOf(measure, lines);
    const x = (step) => LEFT + wide * place(step, last, state.scale);
    const y = (value) => TOP + PLOT * (1 - (value - low) / (high - low || 1));
    for (const value of [0, 0.25, 0.5, 0.75, 1].map((k) => low + k * (high - low))) {
      pen.line([[LEFT, y(value)], [LEFT + wide, y(value)]], { stroke: line });
      pen.text(LEFT - 6, y(value) + 4, digits(value), { fill: soft, size: 11, align: "right" });
    }
    const bottom = TOP + PLOT;
    for (const tick of ticks(last, state.scale)) {
      pen.line([[x(tick), bottom], [x(tick), bottom + 4]], { stroke: soft });
      pen.text(x(tick), bottom + 16, String(tick), { fill: soft, size: 11, align: "center" });
    }
    pen.text(LEFT + wide, bottom + 29, "optimizer steps", { fill: soft, size: 11, align: "right" });
    const plot = { pen, scene, lines, steps: got.value.steps, x, y, wide, last };
    pen.line([[x(scene.step), TOP - 4], [x(scene.step), bottom]], { stroke: ink, weight: 1.5 });
    scene.targets.push({ x: LEFT, y: TOP, width: wide, height: PLOT, label: "Curves", at: (px, py) => near(plot, px, py) });
    drawLines(plot);
    drawEvents(plot, eventsOf(run, name, lineAxis(measure)), bottom + FOOT);
  },
};

/** The lines of a measure: names, colours and values by step. */
export function linesOf({ run, layer, dark }, measure, { data, steps }) {
  const axis = lineAxis(measure);
  const count = axis ? countOf(axis) : 1;
  const layered = measure.axes.length === 2;
  const at = layered ? Math.max(0, measure.axes[0].labels.indexOf(layer)) : 0;
  const stride = layered ? countOf(measure.axes[0]) * count : count;
  const start = layered ? (measure.axes[0].labels.includes(layer) ? at : countOf(measure.axes[0]) - 1) * count : 0;
  return Array.from({ length: count }, (_, k) => {
    const words = axis ? labelOf(axis, k) : "mean";
    const values = steps.map((_step, row) => data[row * stride + start + k]);
    const what = axis?.name === "token" ? { token: words } : axis?.name === "layer" ? { layer: words } : {};
    const token = axis?.name === "token" ? run.tokens.indexOf(words) : k;
    const byDepth = axis?.name === "layer" || count > 8;
    const colour = byDepth ? depthColour(k / Math.max(1, count - 1), dark) : tokenColour(axis ? token : 6, dark);
    return { words, values, what, colour, shape: byDepth ? "disk" : tokenShape(axis ? token : 0) };
  });
}

function rangeOf(measure, lines) {
  const known = knownRange(measure.unit);
  if (known && !/^1 - /.test(measure.unit)) return known;
  const finite = lines.flatMap((one) => one.values).filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const low = Math.min(...finite);
  const high = Math.max(...finite);
  return [low >= 0 && low < 0.5 * high ? 0 : low, high > low ? high : low + 1];
}

const isLit = ({ what }, hover, state) =>
  (what.token && (what.token === hover.token || what.token === state.token)) || (what.layer && what.layer === hover.layer);

function drawLines({ pen, scene, lines, steps, x, y, wide }) {
  const { hover, state, ink } = scene;
  const anyLit = lines.some((one) => isLit(one, hover, state));
  const now = Math.max(0, countTo(steps, scene.step) - 1);
  const labels = [];
  for (const one of lines) {
    const lit = isLit(one, hover, state);
    const style = { stroke: one.colour, weight: lit ? 3.5 : 1.8, alpha: anyLit && !lit ? 0.3 : 1 };
    pen.line(one.values.map((value, k) => (Number.isFinite(value) ? [x(steps[k]), y(value)] : null)), style);
    const value = one.values[now];
    if (Number.isFinite(value)) {
      const spot = [x(steps[now]), y(value)];
      pen.marks([spot], 4.5, one.shape, { fill: one.colour });
      scene.targets.push({ x: spot[0], y: spot[1], r: 6, label: `${one.words}: ${digits(value)} at step ${steps[now]}`, what: one.what });
    }
    const end = one.values.findLast(Number.isFinite);
    if (end !== undefined) labels.push({ ...one, at: y(end), lit });
  }
  spread(labels, lines.length > 12 ? 9.5 : 13);
  for (const { words, at, colour, shape, lit } of labels) {
    pen.marks([[scene.edge ?? LEFT + wide + 9, at]], 4, shape, { fill: colour });
    pen.text(LEFT + wide + 18, at + 4, clip(words, 12), { fill: ink, size: lines.length > 12 ? 10 : 12, bold: Boolean(lit) });
  }
}

/** Moves labels apart so that none lies on another. */
export function spread(labels, room) {
  labels.sort((a, b) => a.at - b.at);
  const sum = (room * (labels.length - 1)) / 2;
  const middle = labels.reduce((total, label) => total + label.at, 0) / (labels.length || 1);
  let next = Math.max(TOP, Math.min(labels[0]?.at ?? TOP, middle - sum));
  for (const label of labels) {
    label.at = Math.max(label.at, next);
    next = label.at + room;
  }
  let most = TOP + PLOT + 4;
  for (const label of [...labels].reverse()) {
    label.at = Math.min(label.at, most);
    most = label.at - room;
  }
}

function drawEvents({ pen, scene, lines, x, last }, events, top) {
  events.forEach((event, k) => {
    const one = lines.find(({ words }) => words === event.name);
    if (!one) return;
    const y = top + LANE * k + 2;
    const [low, high] = [event.low ?? event.step, event.high ?? last];
    pen.line([[x(low), y], [Math.max(x(high), x(low) + 1), y]], { stroke: one.colour, weight: 2.5 });
    pen.marks([[x(event.step), y]], 3.5, one.shape, { fill: one.colour });
    const label = `${event.name} emerged at step ${Math.round(event.step)}, between ${low} and ${event.high ?? "the end"}`;
    const open = () => scene.app.go(event.step);
    scene.targets.push({ x: x(low) - 4, y: y - 3.5, width: x(high) - x(low) + 8, height: LANE, label, what: one.what, open });
  });
}

function near({ scene, lines, steps, x, y, wide, last }, px, py) {
  const fraction = (px - LEFT) / wide;
  const step = nearest(steps, place(stepAt(fraction, last, scene.state.scale), steps.at(-1), scene.state.scale), scene.state.scale);
  const row = steps.indexOf(step);
  const away = (one) => (Number.isFinite(one.values[row]) ? Math.abs(y(one.values[row]) - py) : Infinity);
  const one = lines.reduce((best, next) => (away(next) < away(best) ? next : best), lines[0]);
  const open = () => scene.app.go(step);
  if (!Number.isFinite(one.values[row])) return { label: `Step ${step}`, what: {}, open };
  return { label: `${one.words}: ${digits(one.values[row])} at step ${step}`, what: one.what, open, x };
}
