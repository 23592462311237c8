import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { spanOf } from "../../../lightning_emerge/board/web/chart.js";
import { byteValue, depthColour, palette, shownRange, tokenColour, tokenShape, valueColour } from "../../../lightning_emerge/board/web/colour.js";
import { claims, endsOf, strongest } from "../../../lightning_emerge/board/web/coupling.js";
import { spread } from "../../../lightning_emerge/board/web/curves.js";
import { choose, clip, corner, digits, wrap } from "../../../lightning_emerge/board/web/dom.js";
import { tellEvent } from "../../../lightning_emerge/board/web/events.js";
import { preferred, rgb } from "../../../lightning_emerge/board/web/filters.js";
import { inWords } from "../../../lightning_emerge/board/web/matrix.js";
import { labelOf, rangeOf, Run } from "../../../lightning_emerge/board/web/runs.js";

const RULES = JSON.parse(readFileSync(new URL("rules.json", import.meta.url), "utf8"));
const axis = (name, count) => ({ name, labels: { count } });
const layer = { name: "layer", labels: ["a", "b"] };

test("bytes stand for values on the range, and 255 for none", () => {
	assert.equal(byteValue(0, [-1, 3]), -1);
	assert.equal(byteValue(254, [-1, 3]), 3);
	assert.equal(byteValue(127, [0, 2]), 1);
	assert.ok(Number.isNaN(byteValue(255, [0, 1])));
});

test("colours are the same for the same value whatever range a frame has", () => {
	const near = (a, b) => a.every((value, k) => Math.abs(value - b[k]) <= 3);
	const wide = new Uint8Array(palette([0, 2], [0, 1]).buffer);
	const exact = new Uint8Array(palette([0, 1], [0, 1]).buffer);
	const pixel = (colours, byte) => Array.from(colours.subarray(4 * byte, 4 * byte + 4));
	assert.ok(near(pixel(wide, 64), pixel(exact, 128)));
	assert.deepEqual(pixel(wide, 255), [165, 165, 165, 255]);
});

test("values either side of zero have zero in the middle, orange above", () => {
	assert.deepEqual(shownRange([-0.5, 2]), [-2, 2]);
	const [red, , blue] = valueColour(2, [-0.5, 2]);
	assert.ok(red > blue);
	assert.deepEqual(valueColour(0, [-0.5, 2]), [246, 246, 247]);
	assert.deepEqual(valueColour(NaN, [0, 1]), [165, 165, 165]);
	assert.deepEqual(valueColour(9, [0, 1]), valueColour(1, [0, 1]));
});

test("the token that is black on light is white on dark", () => {
	assert.equal(tokenColour(6, false), "#000000");
	assert.equal(tokenColour(6, true), "#ffffff");
	assert.ok(tokenShape(-1) && tokenColour(-1, false)); // of an event whose token the run does not have
	assert.match(depthColour(0.5, true), /^rgb\(\d+ \d+ \d+\)$/);
});

test("the strongest couplings are those that count and then some", () => {
	const data = new Float32Array(2 * 40 * 40).map((_, k) => (k % 7) / 100);
	data[5] = 8;
	data[1600 + 41] = -9;
	data[77] = 7;
	data[90] = NaN;
	const edges = strongest({ data, shape: [2, 40, 40] }, [7.5, 7.5], "effective");
	const counted = edges.filter((edge) => edge.counts);
	assert.deepEqual(counted.map(({ pair, output, input, value }) => [pair, output, input, value]), [[0, 0, 5, 8], [1, 1, 1, -9]]);
	assert.ok(edges.some(({ pair, output, input }) => pair === 0 && output === 1 && input === 37));
	assert.ok(edges.length <= 122);
});

test("by weight what lies below chance is neither strong nor counts", () => {
	const edges = strongest({ data: new Float32Array([-9, 8, 1, -1]), shape: [1, 2, 2] }, [7.5], "weight");
	assert.deepEqual(edges.map(({ value, counts }) => [value, counts]), [[-9, false], [-1, false], [1, false], [8, true]]);
});

test("where nothing counts, nothing is said to", () => {
	const edges = strongest({ data: new Float32Array([1, 2, 3, 4]), shape: [1, 2, 2] }, [], "weight");
	assert.equal(edges.filter((edge) => edge.counts).length, 0);
	assert.deepEqual(strongest({ data: new Float32Array([NaN]), shape: [1, 1, 1] }, [1], "weight"), []);
});

test("the token that a filter answers most", () => {
	const data = [0.1, 0.9, 0.2, 0, 0, 0, NaN, NaN, NaN, -3, -1, -2];
	assert.deepEqual([0, 1, 2, 3].map((filter) => preferred(data, filter, 3)), [1, -1, null, 1]);
});

test("pictures become pixels; what is not there is grey", () => {
	const bytes = new Uint8ClampedArray(8);
	rgb([0, 1, 0.5, NaN, 2, -1], 0, 3, bytes, [0, 1]);
	assert.deepEqual([...bytes], [0, 128, 255, 255, 255, 165, 0, 255]);
	rgb([0.2, 0.4], 0, 1, bytes, [0, 1]);
	assert.deepEqual([...bytes], [51, 51, 51, 255, 102, 102, 102, 255]);
});

test("a number that was not fetched has no more places than its byte", () => {
	const frame = { data: new Uint8Array([0, 1, 35, 254, 255]), range: [0, 2], step: 7 };
	const words = (exact) => [0, 1, 2, 3, 4].map((k) => inWords({ frame, exact }, k));
	assert.deepEqual(words(undefined), ["0", "0.01", "0.28", "2", "none"]);
	const data = new Float32Array([0, 0.0031, 0.2811, 2, NaN]);
	assert.deepEqual(words({ data, step: 7 }), ["0", "0.0031", "0.281", "2", "none"]);
	assert.deepEqual(words({ data, step: 6 }), words(undefined));
	assert.equal(inWords({ frame: { data: [254], range: [1e4, 2e5], step: 1 } }, 0), "2.0e+5");
	assert.equal(inWords({ frame: { data: [254], range: [3, 3], step: 1 } }, 0), "3");
});

/** A run with some measures, and nothing asked of anybody. */
function makeRun(measures) {
	const run = new Run("r", null);
	const whole = { steps: [0], blank: [], full: true, views: ["curves"], axes: [] };
	run.info = { measures: Object.fromEntries(Object.entries(measures).map(([name, one]) => [name, { ...whole, ...one }])), layers: ["a", "b", "c"] };
	return run;
}

test("what is shown first was measured; what is chosen is shown whatever it is", () => {
	const run = makeRun({ a: { full: false }, b: {}, c: {}, never: { steps: [] } });
	const names = run.measures("curves");
	assert.deepEqual(names, ["a", "b", "c"]);
	assert.equal(run.pick(names, "", []), "b");
	assert.equal(run.pick(names, "", ["a", "x", "c"]), "c");
	assert.equal(run.pick(names, "a", ["c"]), "a");
	assert.equal(run.pick(names, "never", []), "b");
	assert.equal(run.pick(["a"], "", ["a"]), "a");
	assert.equal(run.pick([], "", ["a"]), undefined);
});

test("layers are those of measures that have something of each", () => {
	const axes = [{ name: "layer", labels: ["a", "c"] }, axis("token", 2)];
	const run = makeRun({ rdm: { axes, blank: [0] }, cka: { axes: [layer, { name: "layer_b", labels: ["a", "b"] }] }, norm: { axes: [layer] }, more: { axes: [layer, axis("x", 3)] } });
	assert.deepEqual(run.layers(["rdm"]), ["a", "c"]);
	assert.deepEqual(run.layers(["rdm"], true), ["c"]);
	assert.deepEqual(run.layers(["rdm", "more"], true), ["a", "b", "c"]);
	assert.deepEqual(run.layers(["cka", "norm", "none"]), []);
	assert.deepEqual([run.layerOf("rdm", "c"), run.layerOf("rdm", "b"), run.layerOf("cka", "a")], [1, -1, -1]);
});

test("the range of a measure is that of all runs together", () => {
	const run = (range) => ({ measure: () => ({ range }) });
	for (const { ranges, range } of RULES.runs) assert.deepEqual(rangeOf(ranges.map(run), "m"), range);
	assert.equal(rangeOf([run(null), { measure: () => undefined }], "m"), null);
});

test("edges count, pairs are named and layers found as in the package", () => {
	for (const [kind, does] of Object.entries(RULES.claims)) assert.equal(claims(kind), does);
	for (const { label, layers } of RULES.pairs) assert.deepEqual(endsOf(label), layers);
	for (const { kind, strengths, shape, least, counted } of RULES.edges) {
		const edges = strongest({ data: Float32Array.from(strengths, (value) => value ?? NaN), shape }, least.map((value) => value ?? NaN), kind);
		const found = edges.filter((edge) => edge.counts).map(({ pair, output, input }) => [pair, output, input]);
		assert.deepEqual(found.toSorted(), counted);
	}
	for (const { axes, layered } of RULES.axes) {
		const own = axes.map((name) => (name === "layer" ? layer : axis(name, 2)));
		assert.equal(makeRun({ m: { axes: own } }).layerOf("m", "b"), layered ? 1 : -1);
	}
});

test("boxes stand in rows", () => {
	assert.deepEqual([0, 2, 5].map((k) => corner(k, 3, 10, 20)), [[0, 0], [20, 0], [20, 20]]);
});

test("labels are names or numbers", () => {
	assert.equal(labelOf(axis("filter", 50), 7), "7");
	assert.equal(labelOf(layer, 1), "b");
});

test("labels do not lie on each other, and keep their order", () => {
	const labels = [{ at: 50 }, { at: 51 }, { at: 10 }, { at: 51.5 }];
	spread(labels, 13, 0, 100);
	const at = labels.map((label) => label.at);
	for (let k = 1; k < at.length; k += 1) assert.ok(at[k] - at[k - 1] >= 13);
	assert.ok(at.at(-1) <= 100);
});

test("numbers and words for people", () => {
	assert.deepEqual([0, 0.123456, 624, 1e-7, NaN, 1234567].map(digits), ["0", "0.123", "624", "1.0e-7", "none", "1.2e+6"]);
	assert.deepEqual(wrap("one two three four", 9), ["one two", "three", "four"]);
	assert.equal(clip("abcdef", 4), "abc…");
	assert.equal(choose(["a", "b"], "x", "b"), "b");
	assert.equal(choose(["a", "b"], "x"), "a");
	assert.deepEqual(spanOf([1, NaN, 3]), [0, 3]);
	assert.deepEqual(spanOf([2.5, 3]), [2.5, 3]);
	assert.equal(spanOf([NaN]), null);
});

test("what is said of an event is its onset and mastery, or why there are none", () => {
	const onset = { name: "dax", step: 131.4, low: 100, high: 133 };
	assert.equal(tellEvent({ ...onset, whether: "emerged", mastery: 178, mastery_low: 150, mastery_high: 190 }), "dax emerged at step 131 (100 to 133), mastery 178 (150 to 190)");
	assert.equal(tellEvent(onset), "dax emerged at step 131 (100 to 133)"); // of a run that knew no mastery
	assert.equal(tellEvent({ name: "dax", step: 3 }), "dax emerged at step 3");
	assert.match(tellEvent({ name: "wug", step: null, whether: "never" }), /never/);
	assert.match(tellEvent({ name: "wug", step: null, whether: "unresolved" }), /not resolved/);
});
