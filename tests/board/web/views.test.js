import assert from "node:assert/strict";
import { test } from "node:test";

import { spanOf } from "../../../lightning_emerge/board/web/chart.js";
import { byteValue, depthColour, palette, shownRange, tokenColour, valueColour } from "../../../lightning_emerge/board/web/colour.js";
import { strongest } from "../../../lightning_emerge/board/web/coupling.js";
import { isCurve, spread } from "../../../lightning_emerge/board/web/curves.js";
import { choose, clip, digits, wrap } from "../../../lightning_emerge/board/web/dom.js";
import { preferred, rgb } from "../../../lightning_emerge/board/web/filters.js";
import { isMatrix } from "../../../lightning_emerge/board/web/matrix.js";
import { knownRange, labelOf, rangeOf } from "../../../lightning_emerge/board/web/runs.js";

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

test("which measures are lines and which are matrices", () => {
	assert.ok(isCurve({ axes: [] }));
	assert.ok(isCurve({ axes: [axis("token", 5)] }));
	assert.ok(isCurve({ axes: [layer, axis("model", 6)] }));
	assert.ok(!isCurve({ axes: [layer, axis("filter", 504)] }));
	assert.ok(!isCurve({ axes: [layer, { name: "layer_b", labels: ["a", "b"] }] }));
	assert.ok(isMatrix({ axes: [layer, { name: "layer_b", labels: ["a", "b"] }] }));
	assert.ok(isMatrix({ axes: [layer, axis("stimulus", 9), axis("stimulus_b", 9)] }));
	assert.ok(!isMatrix({ axes: [layer, axis("stimulus", 9), axis("stimulus_b", 8)] }));
	assert.ok(!isMatrix({ axes: [axis("part", 3), layer, axis("token", 5), axis("token_b", 5)] }));
	assert.ok(!isMatrix({ axes: [axis("token", 5)] }));
});

test("the range is that of the unit, or of all runs together", () => {
	assert.deepEqual(knownRange("pearson, -1 to 1"), [-1, 1]);
	assert.deepEqual(knownRange("share of filters"), [0, 1]);
	assert.deepEqual(knownRange("1 - Pearson r"), [0, 1]);
	assert.equal(knownRange("RMS over units"), null);
	const run = (range) => ({ measure: () => ({ unit: "1", range }) });
	assert.deepEqual(rangeOf([run([0, 2]), run([-1, 1]), run(null)], "m"), [-1, 2]);
	assert.equal(rangeOf([run(null)], "m"), null);
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
