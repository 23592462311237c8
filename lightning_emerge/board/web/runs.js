// A run: what it has recorded, and its numbers as they come.

import { getArray, getFrame, getJson, getSprite } from "./api.js";
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
    this.info = null;
  }

  async load() {
    this.info = await getJson("run", { run: this.name });
    const { tokens, stimuli, steps } = this.info;
    const numbers = new Map(tokens.map((token, k) => [token, k]));
    this.tokenOf = stimuli.map((stimulus) => numbers.get(stimulus.token) ?? 0);
    this.order = stimuli.map((_, k) => k).sort((a, b) => this.tokenOf[a] - this.tokenOf[b] || a - b);
    this.version = `${steps.length}-${steps.at(-1)}`;
    return this;
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

  /** The names of the measures that fit. */
  measures(fits) {
    return Object.keys(this.info.measures).filter((name) => this.measure(name).steps.length && fits(this.measure(name), name));
  }

  /** The number of a layer in a measure's own list, and the nearest that it has. */
  layerOf(name, layer) {
    const axis = this.measure(name)?.axes.find((one) => one.name === "layer");
    if (!axis) return -1;
    const at = axis.labels.indexOf(layer);
    return at >= 0 ? at : axis.labels.length - 1;
  }

  /** All of a measure at a step, as bytes; or only one layer's if that would be too much. */
  frame(slot, name, step, layer, range) {
    const measure = this.measure(name);
    const first = 4 * sizeOf(measure) > MOST ? this.layerOf(name, layer) : undefined;
    const bytes = first === undefined ? sizeOf(measure) : sizeOf(measure) / countOf(measure.axes[0]);
    const fetcher = (at) => async () => ({ ...(await getFrame({ run: this.name, measure: name, step: at, first }, range)), step: at, first });
    return this.stepwise(`frame ${slot}`, `frame|${this.name}|${name}|${first}|${range}`, measure, step, bytes, fetcher);
  }

  /** The numbers of a measure at a step; with `first`, of one position of its first axis. */
  values(slot, name, step, first) {
    const measure = this.measure(name);
    const bytes = (4 * sizeOf(measure)) / (first === undefined ? 1 : countOf(measure.axes[0]));
    const fetcher = (at) => async () => ({ ...(await getArray("values", { run: this.name, measure: name, step: at, first })), step: at });
    return this.stepwise(`values ${slot} ${name}`, `values|${this.name}|${name}|${first}`, measure, step, bytes, fetcher);
  }

  /** The same at one step that stays, whatever the slider does. */
  once(name, step, first) {
    const stem = `values|${this.name}|${name}|${first}`;
    const fetcher = async () => ({ ...(await getArray("values", { run: this.name, measure: name, step, first })), step });
    return this.take(`once ${name} ${step}`, `${stem}|${step}`, `${stem}|${step}`, fetcher);
  }

  stepwise(slot, stem, measure, step, bytes, fetcher) {
    const at = latest(measure.steps, step);
    const one = (when) => [`${stem}|${when}`, fetcher(when)];
    const ahead = around(measure.steps, at, Math.floor(AHEAD / bytes)).map(one);
    return this.take(slot, stem, ...one(at), ahead);
  }

  /** A measure at all steps. */
  series(name, filter) {
    const stem = `series|${this.name}|${name}|${filter ?? ""}`;
    return this.take(stem, stem, `${stem}|${this.version}`, () => getArray("series", { run: this.name, measure: name, filter }));
  }

  /** Stimuli in the plane at all steps. */
  points(name, first) {
    const stem = `points|${this.name}|${name}|${first}`;
    // One layer after the other: each is work for the server.
    return this.take(`points ${this.name}`, stem, `${stem}|${this.version}`, () => getArray("points", { run: this.name, measure: name, first }));
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
  if (/^1 - /.test(unit)) return [0, 1]; // 1 is unrelated; what lies beyond is opposite
  if (/^(cosine|correlation)/.test(unit)) return [-1, 1];
  if (/^(share|probability|AUC)/i.test(unit)) return [0, 1];
  return null;
}
