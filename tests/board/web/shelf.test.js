import assert from "node:assert/strict";
import { test } from "node:test";

import { Desk, Shelf } from "../../../lightning_emerge/board/web/shelf.js";

const settle = () => new Promise((resolve) => setTimeout(resolve, 5));

/** Fetchers that answer when they are told to. */
function post() {
	const asked = [];
	return {
		asked,
		fetcher: (key) => () => new Promise((resolve, reject) => asked.push({ key, answer: () => resolve({ bytes: 10, key }), fail: () => reject(new Error("no")) })),
	};
}

test("the shelf throws the least used away, and counts bytes", () => {
	const shelf = new Shelf(30);
	for (const key of ["a", "b", "c"]) shelf.put(key, key, 10);
	shelf.get("a");
	shelf.put("d", "d", 10);
	assert.equal(shelf.get("b"), undefined);
	assert.equal(shelf.get("a"), "a");
	assert.equal(shelf.bytes, 30);
	shelf.put("huge", "huge", 100);
	assert.equal(shelf.get("huge"), "huge");
	assert.equal(shelf.bytes, 100);
});

test("one request at a time, and then what was asked for last", async () => {
	const { asked, fetcher } = post();
	const desk = new Desk(1000, () => {});
	for (const key of ["a", "b", "c", "d"]) assert.equal(desk.want("slot", key, fetcher(key)), undefined);
	assert.deepEqual(asked.map(({ key }) => key), ["a"]);
	asked[0].answer();
	await settle();
	assert.deepEqual(asked.map(({ key }) => key), ["a", "d"]);
	asked[1].answer();
	await settle();
	assert.equal(desk.want("slot", "d", fetcher("d")).key, "d");
	assert.equal(desk.want("slot", "a", fetcher("a")).key, "a");
	assert.equal(asked.length, 2);
});

test("what comes next is preloaded when all is quiet, each once and in order", async () => {
	const { asked, fetcher } = post();
	const desk = new Desk(1000, () => {});
	const ahead = ["b", "c"].map((key) => [key, fetcher(key)]);
	desk.want("slot", "a", fetcher("a"), ahead);
	await settle();
	assert.equal(asked.length, 1);
	for (let k = 0; k < 3; k += 1) {
		asked[k].answer();
		await settle();
	}
	assert.deepEqual(asked.map(({ key }) => key), ["a", "b", "c"]);
});

test("preloading ends where not all fits", async () => {
	const desk = new Desk(100, () => {});
	let count = 0;
	const fetcher = () => async () => {
		count += 1;
		return { bytes: 10 };
	};
	const ahead = Array.from({ length: 50 }, (_, k) => [`${k}`, fetcher()]);
	desk.want("slot", "now", fetcher(), ahead);
	await settle();
	await settle();
	assert.ok(count <= 6, `${count}`);
	assert.ok(desk.want("slot", "now", fetcher(), ahead));
});

test("an error is said, and asked again later", async (context) => {
	context.mock.timers.enable({ apis: ["setTimeout"] });
	const { asked, fetcher } = post();
	let arrived = 0;
	const desk = new Desk(1000, () => (arrived += 1));
	desk.want("slot", "a", fetcher("a"));
	asked[0].fail();
	await new Promise(setImmediate);
	assert.equal(desk.want("slot", "a", fetcher("a")).error, "no");
	assert.equal(arrived, 1);
	context.mock.timers.tick(5000);
	assert.equal(desk.want("slot", "a", fetcher("a")), undefined);
	assert.equal(asked.length, 2);
});
