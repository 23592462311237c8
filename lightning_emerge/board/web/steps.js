// Steps and where they lie on an axis. Numbers only.

// As in figures/steps.py: linear to here, and as wide as each decade beyond.
const KNEE = 10;
const along = (step) => (step < KNEE ? step / KNEE : Math.log10(step));

export const nameOf = (scale) => `optimizer steps${scale === "log" ? ` (log beyond ${KNEE})` : ""}`;

/** Where a step lies on an axis that ends at `last`: 0 to 1. */
export function place(step, last, scale) {
	if (last <= 0) return 0;
	return scale === "log" ? along(step) / along(last) : step / last;
}

/** The look whose place is nearest to one of 0 to 1. */
export function nearest(steps, fraction, scale, last = steps.at(-1)) {
	const away = (step) => Math.abs(place(step, last, scale) - fraction);
	return steps.reduce((best, step) => (away(step) < away(best) ? step : best), steps[0]);
}

/** The number of the newest look at or before a step; of the first one if there is none. */
export const lookAt = (steps, step) => Math.max(0, countTo(steps, step) - 1);

export const latest = (steps, step) => steps[lookAt(steps, step)];

/** How many of some ascending steps are at or before one. */
export function countTo(steps, step) {
	let low = 0;
	let high = steps.length;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (steps[middle] <= step) low = middle + 1;
		else high = middle;
	}
	return low;
}

/** The look so many looks after a step. */
export function moved(steps, step, by) {
	return steps[Math.min(steps.length - 1, Math.max(0, countTo(steps, step) - 1 + by))];
}

/** All steps of several runs, ascending, each once. */
export function union(lists) {
	return [...new Set(lists.flat())].toSorted((a, b) => a - b);
}

/** Round steps for an axis. */
export function ticks(last, scale) {
	if (last <= 0) return [0];
	const power = 10 ** Math.floor(Math.log10(last / 4));
	const log = scale === "log" && last > KNEE;
	const width = log ? 5 : Math.max(1, [1, 2, 5, 10].find((k) => k * power >= last / 4) * power);
	const found = [0];
	for (let tick = width; place(tick, last, scale) < 0.92; tick = log && tick >= KNEE ? tick * 10 : tick + width) found.push(tick);
	return [...found, last];
}

/** The looks around a step, nearest first, those to come before those gone by. */
export function around(steps, step, count) {
	const at = countTo(steps, step) - 1;
	const order = [];
	for (let away = 1; away < steps.length && order.length < count; away += 1) {
		for (const next of [at + away, at - away]) if (steps[next] !== undefined) order.push(steps[next]);
	}
	return order.slice(0, count);
}
