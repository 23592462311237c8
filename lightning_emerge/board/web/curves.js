// Curves over steps, with the intervals in which tokens, layers and parts emerged.

import { drawAxes, drawLines, isLit, linesOf, spanOf } from "./chart.js";
import { clip, digits } from "./dom.js";
import { tellEvent } from "./events.js";
import { countOf, sizeOf } from "./runs.js";
import { nameOf, nearest } from "./steps.js";

const LEFT = 52;
const RIGHT = 92;
const TOP = 12;
const PLOT = 230;
const LANE = 7;
const FOOT = 34;

export const curvesView = {
	id: "curves",
	title: "Learning and emergence",
	missing: "curves; a CategoryProbe does (--config vgg5)",
	key: "curves",
	better: ["bank_confidence", "bank_accuracy"],
	names: (run) => run.measures("curves"),
	about({ measure }) {
		const { unit, range } = measure;
		const axis = measure.axes.at(-1);
		const span = range?.map(digits).join(" to ");
		const words = [unit, span].filter(Boolean).join(", ");
		const bars = measure.events.length ? " Below, when each emerged: the full mark is its onset, the hollow one its mastery, bars are 95% intervals; dotted is not resolved, a cross never." : "";
		return `${measure.about}${words && ` (${words})`}: ${axis ? `a line for each ${axis.name}` : "one line"}, over optimizer steps. The upright line is the step.${bars}`;
	},
	height: ({ measure }) => TOP + PLOT + FOOT + LANE * measure.events.length,
	draw(pen, scene, width) {
		const { run, name, measure } = scene;
		const axis = measure.axes.at(-1);
		const got = scene.have(run.series(name));
		if (!got) return;
		const start = measure.axes.length === 2 ? run.layerOf(name, scene.layer) * countOf(axis) : 0;
		const lines = linesOf(scene, axis, got, sizeOf(measure), start);
		const span = spanOf(lines.flatMap((one) => one.values));
		const range = measure.known ?? span ?? [0, 1];
		const wide = width - LEFT - RIGHT;
		const places = drawAxes(pen, scene, [LEFT, TOP, wide, PLOT], range, 4);
		pen.text(LEFT + wide, TOP + PLOT + 29, nameOf(scene.state.scale), { fill: scene.soft, align: "right" });
		const plot = { lines, steps: got.steps, wide, ...places };
		scene.hit([LEFT, TOP, wide, PLOT], "Curves", {}, undefined, (x, y) => near(scene, plot, x, y));
		if (!span) scene.sayNothing(pen, LEFT + 8, TOP + 20);
		drawLines(pen, scene, lines, got.steps, places);
		drawNames(pen, scene, plot);
		measure.events.forEach((number, k) => drawEvent(pen, scene, plot, run.info.events[number], TOP + PLOT + FOOT + LANE * k + 2));
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

/** A full mark at the onset and a hollow one at the mastery, with their intervals; dots for what is not resolved, a cross for never. */
function drawEvent(pen, scene, { lines, toX, wide }, event, y) {
	const one = lines.find(({ name }) => name === event.name);
	if (!one) return;
	const { colour: stroke, shape, what } = one;
	const bar = (low, high, style) => pen.line([[low, y], [Math.max(low + 1, high), y]], { stroke, ...style });
	const known = Number.isFinite(event.step);
	let [left, right] = [LEFT, LEFT + wide];
	if (known) {
		[left, right] = [toX(event.low ?? event.step), toX(event.high ?? scene.last)];
		bar(left, right, { weight: 2.5 });
		if (event.mastery > event.step) {
			bar(toX(event.step), toX(event.mastery), {});
			bar(toX(event.mastery_low), toX(event.mastery_high), { weight: 2.5, alpha: 0.5 });
			pen.marks([[toX(event.mastery), y]], 3, shape, { fill: scene.page, stroke });
			right = toX(event.mastery_high);
		}
		pen.marks([[toX(event.step), y]], 3.5, shape, { fill: stroke });
	} else if (event.whether === "never") pen.text(right, y + 4, "×", { fill: stroke, align: "center" });
	else bar(left, right, { dash: [2, 4] });
	scene.hit([left - 4, y - 3.5, right - left + 8, LANE], tellEvent(event), what, known && (() => scene.app.go(event.step)));
}

function near(scene, { lines, steps, toY, wide }, x, y) {
	const { scale } = scene.state;
	const step = nearest(steps, (x - LEFT) / wide, scale, scene.last);
	const row = steps.indexOf(step);
	const away = (one) => (Number.isFinite(one.values[row]) ? Math.abs(toY(one.values[row]) - y) : Infinity);
	const one = lines.reduce((best, next) => (away(next) < away(best) ? next : best));
	return { label: `${one.name} ${digits(one.values[row])} at step ${step}`, what: one.what, open: () => scene.app.go(step) };
}
