// A run: what it has recorded, and its numbers as they come.

import { getArray, getJson, getSprite } from "./api.js";
import { around, latest } from "./steps.js";

const MOST = 16e6; // bytes of one answer
const AHEAD = 96e6; // bytes to preload of one thing

export const countOf = (axis) => axis.labels.count ?? axis.labels.length;
export const labelOf = (axis, k) => (axis.labels.count === undefined ? String(axis.labels[k]) : String(k));
export const sizeOf = (measure) => measure.axes.reduce((product, axis) => product * countOf(axis), 1);
export const axisNames = (measure) => measure.axes.map((axis) => axis.name);

export class Run {
	constructor(name, desk) {
		this.name = name;
		this.desk = desk;
		this.shown = new Map();
	}

	async load() {
		this.info = await getJson("run", { run: this.name });
		const { tokens, stimuli, steps } = this.info;
		const numbers = new Map(tokens.map((token, k) => [token, k]));
		this.tokenOf = stimuli.map((stimulus) => numbers.get(stimulus.token) ?? 0);
		this.order = stimuli.map((_, k) => k).toSorted((a, b) => this.tokenOf[a] - this.tokenOf[b] || a - b);
		this.layers = [...new Set(Object.values(this.info.measures).flatMap(({ axes }) => (axes[0]?.name === "layer" ? axes[0].labels : [])))];
		this.version = `${steps.length}-${steps.at(-1)}`;
	}

	/** Whether there was anything new. */
	async refresh() {
		const { steps, last } = await getJson("stamp", { run: this.name });
		if (`${steps}-${last}` === this.version) return false;
		await this.load();
		return true;
	}

	get steps() {
		return this.info.steps;
	}

	get tokens() {
		return this.info.tokens;
	}

	measure(name) {
		return Object.hasOwn(this.info.measures, name) ? this.info.measures[name] : undefined;
	}

	measures(fits) {
		return Object.keys(this.info.measures).filter((name) => this.measure(name).steps.length && fits(this.measure(name), name));
	}

	/** The number of a layer in a measure's own list, or of its last. */
	layerOf(name, layer) {
		const axis = this.measure(name)?.axes.find((one) => one.name === "layer");
		if (!axis) return -1;
		const at = axis.labels.indexOf(layer);
		return at >= 0 ? at : axis.labels.length - 1;
	}

	/** All of a measure at a step, as bytes; or only one layer's if that would be too much. */
	frame(slot, name, step, layer) {
		const first = sizeOf(this.measure(name)) > MOST ? this.layerOf(name, layer) : undefined;
		return this.stepwise("frame", slot, name, step, first);
	}

	/** The numbers of a measure at a step; with `first`, of one position of its first axis. */
	values(slot, name, step, first) {
		return this.stepwise("values", slot, name, step, first);
	}

	/** Numbers at a step, and those around it while all is quiet unless they `stay`. */
	stepwise(route, slot, name, step, first, stay) {
		const { steps } = this.measure(name);
		const size = sizeOf(this.measure(name)) / (first === undefined ? 1 : countOf(this.measure(name).axes[0]));
		const stem = `${this.name} ${route} ${name} ${first}`;
		const one = (at) => [`${stem} ${at}`, async () => ({ ...(await this.ask(route, { measure: name, step: at, first })), step: at, first })];
		const ahead = stay ? [] : around(steps, step, Math.floor(AHEAD / size / (route === "frame" ? 1 : 4)));
		return this.take(`${route} ${slot} ${name}`, stem, ...one(latest(steps, step)), ahead.map(one));
	}

	once(name, step, first) {
		return this.stepwise("values", `once ${step}`, name, step, first, true);
	}

	/** A measure at all steps; or stimuli in the plane, one layer after the other as each is work for the server. */
	series(measure, filter) {
		return this.whole("series", `series ${measure} ${filter}`, { measure, filter });
	}

	points(measure, first) {
		return this.whole("points", "points", { measure, first });
	}

	whole(route, slot, parameters) {
		const stem = JSON.stringify(parameters);
		return this.take(slot, stem, `${this.name} ${route} ${stem} ${this.version}`, () => this.ask(route, parameters));
	}

	ask(route, parameters) {
		return getArray(route, { run: this.name, ...parameters });
	}

	sprite() {
		if (!this.info.has_images) return undefined;
		const key = `sprite|${this.name}`;
		return this.take(key, key, key, () => getSprite(this.name)).value;
	}

	/** What is there, or what was shown before while the new is fetched. */
	take(slot, stem, key, fetcher, ahead = []) {
		const own = `${this.name} ${slot}`;
		const found = this.desk.want(own, key, fetcher, ahead);
		if (found?.error) return { error: found.error, fresh: true };
		if (found) this.shown.set(slot + stem, found);
		return { value: this.shown.get(slot + stem), fresh: found !== undefined };
	}
}

/** The range of a measure over some runs, so that the same colour means the same in all. */
export function rangeOf(runs, name) {
	const unit = runs.map((run) => run.measure(name)?.unit).find(Boolean) ?? "";
	const known = knownRange(unit);
	if (known) return known;
	const ranges = runs.map((run) => run.measure(name)?.range).filter(Boolean);
	if (!ranges.length) return null;
	return [Math.min(...ranges.map((range) => range[0])), Math.max(...ranges.map((range) => range[1]))];
}

/** The range that a unit names: the same in every run. */
export function knownRange(unit) {
	const words = /(-?\d+(?:\.\d+)?) to (-?\d+(?:\.\d+)?)/.exec(unit);
	if (words) return [Number(words[1]), Number(words[2])];
	if (unit.startsWith("1 - ")) return [0, 1]; // 1 is unrelated; what lies beyond is opposite
	if (/^(cosine|correlation)/.test(unit)) return [-1, 1];
	if (/^(share|probability|AUC)/i.test(unit)) return [0, 1];
	return null;
}
