// A run: what it has recorded, and its numbers as they come.

import { getArray, getJson, getSprite } from "./api.js";
import { choose } from "./dom.js";
import { around, latest } from "./steps.js";

const MOST = 16e6; // bytes of one answer
const AHEAD = 96e6; // bytes to preload of one thing

export const countOf = (axis) => axis.labels.count ?? axis.labels.length;
export const labelOf = (axis, k) => (axis.labels.count === undefined ? String(axis.labels[k]) : String(k));
export const sizeOf = (measure) => measure.axes.reduce((product, axis) => product * countOf(axis), 1);

export class Run {
	constructor(name, desk) {
		this.name = name;
		this.desk = desk;
		this.shown = new Map();
	}

	/** Asks what there is, `again` or only if there are other steps; says whether it did. What goes wrong is this run's trouble. */
	async refresh(again) {
		const { name } = this;
		try {
			const { steps, last } = await getJson("stamp", { run: name });
			const version = `${steps}-${last}`;
			const asked = again || version !== this.version;
			if (asked) this.info = await getJson("run", { run: name });
			Object.assign(this, { version, trouble: "" });
			return asked;
		} catch (error) {
			this.trouble = error.message;
			return false;
		}
	}

	get steps() {
		return this.info?.steps ?? [];
	}

	get tokens() {
		return this.info.tokens;
	}

	/** What is known of a measure, if it was taken at any step. */
	measure(name) {
		return Object.hasOwn(this.info.measures, name) && this.info.measures[name].steps.length ? this.info.measures[name] : undefined;
	}

	/** The measures that can be drawn in some way. */
	measures(view) {
		return Object.keys(this.info.measures).filter((name) => this.measure(name)?.views.includes(view));
	}

	/** Of some measures, the one that is wished for, or else one with numbers at its newest look, better ones first. */
	pick(names, wish, better) {
		const full = names.filter((name) => this.measure(name).full);
		return choose(names, wish, ...better.filter((name) => full.includes(name)), full[0]);
	}

	/** The layers that some measures are of; with `full`, those with numbers at the newest look. */
	layers(names, full) {
		const has = (name, at) => at >= 0 && !(full && this.measure(name).blank.includes(at));
		return this.info.layers.filter((layer) => names.some((name) => has(name, this.layerOf(name, layer))));
	}

	/** The number of a layer in a measure that has something of each; -1 if it is not there. */
	layerOf(name, layer) {
		const [first, next] = this.measure(name)?.axes ?? [];
		return first?.name === "layer" && next && next.name !== "layer_b" ? first.labels.indexOf(layer) : -1;
	}

	/** All of a measure at a step, as bytes; or only one layer's if that would be too much. */
	frame(slot, name, step, layer) {
		const first = sizeOf(this.measure(name)) > MOST && layer >= 0 ? layer : undefined;
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
	const measures = runs.map((run) => run.measure(name)).filter(Boolean);
	const ranges = measures.map((measure) => measure.range).filter(Boolean);
	return ranges.length ? [Math.min(...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))] : null;
}
