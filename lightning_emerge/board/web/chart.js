// Axes and lines over steps.

import { depthColour, tokenColour, tokenShape } from "./colour.js";
import { digits } from "./dom.js";
import { countOf, labelOf } from "./runs.js";
import { lookAt, place, ticks } from "./steps.js";

/** Draws axes in a box [x, y, width, height]. Gives the places of steps and values. */
export function drawAxes(pen, scene, [x, y, width, height], [low, high], parts) {
	const { last, soft, line, ink, state } = scene;
	const toX = (step) => x + width * place(step, last, state.scale);
	const toY = (value) => y + height * (1 - (value - low) / (high - low || 1));
	for (let k = 0; k <= parts; k += 1) {
		const value = low + (k * (high - low)) / parts;
		pen.line([[x, toY(value)], [x + width, toY(value)]], { stroke: line });
		const exact = Number(value.toFixed(Math.min(9, Math.max(0, parts / 2 - Math.floor(Math.log10(high - low))))));
		pen.text(x - 6, toY(value) + 4, Math.max(high, -low) > 1e-3 ? String(exact) : digits(value), { fill: soft, align: "right" });
	}
	const bottom = y + height;
	for (const tick of ticks(last, state.scale)) {
		pen.line([[toX(tick), bottom], [toX(tick), bottom + 4]], { stroke: soft });
		pen.text(toX(tick), bottom + 16, String(tick), { fill: soft, align: "center" });
	}
	pen.line([[toX(scene.step), y - 4], [toX(scene.step), bottom]], { stroke: ink, weight: 1.5 });
	return { toX, toY };
}

/** One line for each position of an axis: name, colour, shape, values by step. */
export function linesOf({ run, dark }, axis, { data, steps }, stride, start) {
	const count = axis ? countOf(axis) : 1;
	return Array.from({ length: count }, (_, k) => {
		const name = axis ? labelOf(axis, k) : "";
		const token = axis?.name === "token" ? run.tokens.indexOf(name) : k;
		const deep = axis?.name === "layer" || count > 8;
		return {
			name,
			what: ["token", "layer"].includes(axis?.name) ? { [axis.name]: name } : {},
			colour: deep ? depthColour(k / Math.max(1, count - 1), dark) : tokenColour(axis ? token : 6, dark),
			shape: deep || !axis ? "disk" : tokenShape(token),
			values: steps.map((_step, row) => data[row * stride + start + k]),
		};
	});
}

export function isLit({ what }, { only, hover }) {
	return Boolean((what.token && what.token === only) || (what.layer && what.layer === hover.layer));
}

/** Draws lines, with marks at the step that is shown; where one is lit the others fade. */
export function drawLines(pen, scene, lines, steps, { toX, toY }) {
	const any = lines.some((one) => isLit(one, scene));
	const now = lookAt(steps, scene.step);
	for (const one of lines) {
		const lit = isLit(one, scene);
		const points = one.values.map((value, k) => (Number.isFinite(value) ? [toX(steps[k]), toY(value)] : null));
		pen.line(points, { stroke: one.colour, weight: lit ? 3.5 : 1.8, alpha: any && !lit ? 0.3 : 1 });
		const [x, y] = points[now] ?? [];
		if (x === undefined) continue;
		pen.marks([[x, y]], 4, one.shape, { fill: one.colour });
		scene.spot(x, y, 6, `${one.name} ${digits(one.values[now])} at step ${steps[now]}`, one.what);
	}
}

/** The least and the most of some numbers, with zero if it is not far. */
export function spanOf(numbers) {
	const finite = numbers.filter(Number.isFinite);
	if (!finite.length) return null;
	const low = finite.reduce((a, b) => Math.min(a, b));
	const high = finite.reduce((a, b) => Math.max(a, b));
	return [low >= 0 && low < 0.5 * high ? 0 : low, high > low ? high : low + 1];
}
