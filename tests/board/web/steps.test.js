import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { around, countTo, latest, lookAt, moved, nameOf, nearest, place, ticks, union } from "../../../lightning_emerge/board/web/steps.js";

const AXES = JSON.parse(readFileSync(new URL("../../figures/steps.json", import.meta.url), "utf8"));
const STEPS = [0, 1, 3, 10, 30, 100, 624];

test("places run from 0 to 1, in order, on both scales", () => {
	for (const scale of ["log", "linear"]) {
		const places = STEPS.map((step) => place(step, 624, scale));
		assert.equal(places[0], 0);
		assert.equal(places.at(-1), 1);
		assert.deepEqual(places, places.toSorted((a, b) => a - b));
	}
	assert.equal(place(0, 0, "log"), 0);
	assert.equal(place(156, 624, "linear"), 0.25);
});

test("the look nearest to its own place is itself", () => {
	for (const scale of ["log", "linear"]) {
		for (const step of STEPS) assert.equal(nearest(STEPS, place(step, 624, scale), scale), step);
	}
	assert.equal(nearest(STEPS, 0.4, "linear", 100), 30);
});

test("the latest look is at or before the step, and the first if there is none", () => {
	assert.equal(latest(STEPS, 99), 30);
	assert.equal(latest(STEPS, 100), 100);
	assert.equal(latest(STEPS, 1e9), 624);
	assert.equal(latest([5, 9], 2), 5);
	assert.deepEqual([lookAt([5, 9], 2), lookAt(STEPS, 99)], [0, 4]);
	assert.equal(countTo(STEPS, -1), 0);
	assert.equal(countTo(STEPS, 3), 3);
});

test("moving stops at both ends", () => {
	assert.equal(moved(STEPS, 3, 1), 10);
	assert.equal(moved(STEPS, 3, -1), 1);
	assert.equal(moved(STEPS, 0, -1), 0);
	assert.equal(moved(STEPS, 30, Infinity), 624);
	assert.equal(moved(STEPS, 30, -Infinity), 0);
});

test("two runs' steps are each there once", () => {
	assert.deepEqual(union([[0, 2, 10], [0, 3, 10]]), [0, 2, 3, 10]);
});

test("what is preloaded is nearest first, and no more than fits", () => {
	assert.deepEqual(around(STEPS, 10, 4), [30, 3, 100, 1]);
	assert.deepEqual(around(STEPS, 624, 99), [100, 30, 10, 3, 1, 0]);
	assert.deepEqual(around(STEPS, 10, 0), []);
});

test("ticks begin at 0, end at the last step and do not crowd", () => {
	for (const scale of ["log", "linear"]) {
		for (const last of [0, 1, 2, 7, 20, 100, 101, 624, 1000, 123_456]) {
			const found = ticks(last, scale);
			assert.equal(found[0], 0);
			assert.equal(found.at(-1), last);
			assert.ok(found.length <= 8, `${found}`);
			assert.deepEqual(found, [...new Set(found)]);
		}
	}
	assert.deepEqual(ticks(1000, "linear"), [0, 500, 1000]);
});

test("places and names are those of the package's pictures, whose tests read the same file", () => {
	for (const { last, ticks: named, places } of AXES) {
		assert.deepEqual(ticks(last, "log"), named);
		for (const [step, expected] of places) assert.ok(Math.abs(place(step, last, "log") - expected) < 1e-5, `${step} of ${last}`);
	}
	assert.equal(nameOf("log"), "optimizer steps (log beyond 10)");
	assert.equal(nameOf("linear"), "optimizer steps");
});
