// Curves over steps, with the intervals in which tokens, layers and parts emerged.

import { drawAxes, drawLines, isLit, linesOf, spanOf } from "./chart.js";
import { choose, clip, digits } from "./dom.js";
import { axisNames, countOf, knownRange } from "./runs.js";
import { nearest } from "./steps.js";

const LEFT = 52;
const RIGHT = 92;
const TOP = 12;
const PLOT = 230;
const LANE = 7;
const FOOT = 34;
const MOST = 24;

/** Whether a measure can be drawn as lines: one a position of an axis, in one layer if there are layers. */
export function isCurve(measure) {
	const names = axisNames(measure);
	const counts = measure.axes.map(countOf);
	if (names.length < 2) return (counts[0] ?? 1) <= MOST;
	return names.length === 2 && names[0] === "layer" && names[1] !== "layer_b" && counts[1] <= MOST;
}

function chosen({ run, state }) {
	const all = run.measures(isCurve);
	const name = choose(all, state.curves, "bank_confidence", "bank_accuracy");
	const measure = run.measure(name);
	const axis = measure.axes.at(-1);
	const layered = measure.axes.length === 2;
	return { all, name, measure, axis, layered, events: eventsOf(run, name, axis) };
}

/** The events that belong to the lines of a measure. */
function eventsOf(run, name, axis) {
	if (!axis) return [];
	const parts = ["feature", "part"].includes(axis.name);
	const fits = (event) =>
		parts ? ["part", "pair", "conjunction"].includes(event.group) : event.group === axis.name && event.measure.startsWith(name);
	return run.info.events.filter((event) => fits(event) && Number.isFinite(event.step));
}

export const curvesView = {
	id: "curves",
	title: "Learning and emergence",
	missing: (run) => (run.measures(isCurve).length ? "" : "This run has recorded no curves. A CategoryProbe does (configs/vgg5.yaml)."),
	choices(scene) {
		const { all, name, measure, layered } = chosen(scene);
		const found = [["curves", "Measure", name, all]];
		return layered ? [...found, ["layer", "Layer", scene.layer, measure.axes[0].labels]] : found;
	},
	about(scene) {
		const { measure, axis, events } = chosen(scene);
		const { unit, range } = measure;
		const span = range && !/ to /.test(unit) ? (knownRange(unit) ?? range).map(digits).join(" to ") : "";
		const words = [unit === "1" ? "" : unit, span].filter(Boolean).join(", ");
		const bars = events.length ? " A bar below says when each emerged: its mark is the step, its length the 95% interval." : "";
		return `${measure.about}${words && ` (${words})`}: ${axis ? `a line for each ${axis.name}` : "one line"}, over optimizer steps. The upright line is the step.${bars}`;
	},
	height: (scene) => TOP + PLOT + FOOT + LANE * chosen(scene).events.length,
	draw(pen, scene, width) {
		const { run } = scene;
		const { name, measure, axis, layered, events } = chosen(scene);
		const got = scene.have(run.series(name));
		if (!got) return;
		const count = axis ? countOf(axis) : 1;
		const start = layered ? run.layerOf(name, scene.layer) * count : 0;
		const lines = linesOf(scene, axis, got, layered ? countOf(measure.axes[0]) * count : count, start);
		const known = measure.unit.startsWith("1 - ") ? null : knownRange(measure.unit);
		const range = known ?? spanOf(lines.flatMap((one) => one.values)) ?? [0, 1];
		const wide = width - LEFT - RIGHT;
		const places = drawAxes(pen, scene, [LEFT, TOP, wide, PLOT], range, 4);
		pen.text(LEFT + wide, TOP + PLOT + 29, "optimizer steps", { fill: scene.soft, align: "right" });
		const plot = { lines, steps: got.steps, wide, ...places };
		scene.hit([LEFT, TOP, wide, PLOT], "Curves", {}, undefined, (x, y) => near(scene, plot, x, y));
		drawLines(pen, scene, lines, got.steps, places);
		drawNames(pen, scene, plot);
		events.forEach((event, k) => drawEvent(pen, scene, plot, event, TOP + PLOT + FOOT + LANE * k + 2));
	},
};

function drawNames(pen, scene, { lines, toY, wide }) {
	const small = lines.length > 12;
	const labels = lines.map((one) => ({ ...one, at: toY(one.values.findLast(Number.isFinite)) })).filter((one) => Number.isFinite(one.at));
	spread(labels, small ? 10 : 13, TOP, TOP + PLOT + 4);
	for (const { name, at, shape, colour, what } of labels) {
		pen.marks([[LEFT + wide + 9, at]], 4, shape, { fill: colour });
		pen.text(LEFT + wide + 18, at + 4, clip(name, 12), { size: small ? 10 : 12, bold: isLit({ what }, scene) });
	}
}

/** Moves labels apart so that none lies on another. */
export function spread(labels, room, top, bottom) {
	labels.sort((a, b) => a.at - b.at);
	let next = top;
	for (const label of labels) {
		label.at = Math.max(label.at, next);
		next = label.at + room;
	}
	let most = bottom;
	for (const label of labels.toReversed()) {
		label.at = Math.min(label.at, most);
		most = label.at - room;
	}
}

function drawEvent(pen, scene, { lines, toX }, event, y) {
	const one = lines.find(({ name }) => name === event.name);
	if (!one) return;
	const low = toX(event.low ?? event.step);
	const high = Math.max(low + 1, toX(event.high ?? scene.last));
	pen.line([[low, y], [high, y]], { stroke: one.colour, weight: 2.5 });
	pen.marks([[toX(event.step), y]], 3.5, one.shape, { fill: one.colour });
	const words = `${event.name} emerged at step ${Math.round(event.step)}, between ${event.low ?? "the start"} and ${event.high ?? "the end"}`;
	scene.hit([low - 4, y - 3.5, high - low + 8, LANE], words, one.what, () => scene.app.go(event.step));
}

function near(scene, { lines, steps, toY, wide }, x, y) {
	const { scale } = scene.state;
	const step = nearest(steps, (x - LEFT) / wide, scale, scene.last);
	const row = steps.indexOf(step);
	const away = (one) => (Number.isFinite(one.values[row]) ? Math.abs(toY(one.values[row]) - y) : Infinity);
	const one = lines.reduce((best, next) => (away(next) < away(best) ? next : best));
	return { label: `${one.name} ${digits(one.values[row])} at step ${step}`, what: one.what, open: () => scene.app.go(step) };
}
