import assert from "node:assert/strict";
import { test } from "node:test";

import { START, State, readHash, writeHash } from "../../../lightning_emerge/board/web/state.js";

function outer(hash) {
	const heard = [];
	return {
		location: { hash, pathname: "/prefix/", search: "?x=1" },
		history: {
			state: null,
			replaceState(_state, _title, address) {
				this.address = address;
			},
		},
		addEventListener: (_kind, listener) => heard.push(listener),
		go(next) {
			this.location.hash = next;
			heard.forEach((listener) => listener());
		},
	};
}

test("what is written can be read, whatever the names are", () => {
	const evil = "<img onerror=alert(1)>&p.emerge.step=9#x%zz +é";
	const state = { ...START, run: evil, other: "a/b", step: 25, scale: "linear", filter: "conv1/3", token: "dax" };
	const hash = writeHash("#emerge&other.plugin=1", state);
	assert.ok(hash.startsWith("#emerge&other.plugin=1&"));
	assert.deepEqual({ ...START, ...readHash(hash) }, state);
});

test("an address without our keys shows the newest step", () => {
	assert.deepEqual(readHash("#emerge"), {});
	assert.equal(START.step, null);
	assert.equal(writeHash("#emerge&p.emerge.step=3", START), "#emerge");
});

test("what is malformed is passed by", () => {
	for (const hash of ["#p.emerge.step=-1", "#p.emerge.step=1e9", "#p.emerge.step=%zz", "#p.emerge.scale=odd", "#p.emerge.__proto__=1", "#p.emerge.toString=1", "#p.emerge.", "#&&=&"]) {
		assert.deepEqual(readHash(hash), {}, hash);
	}
});

test("changes are heard once, and the address follows with its path and query", async () => {
	const page = outer("#emerge");
	const heard = [];
	const store = new State((changes) => heard.push(changes), page);
	store.set({ step: 3 });
	store.set({ step: 3 });
	assert.deepEqual(heard, [{ step: 3 }]);
	await new Promise((resolve) => setTimeout(resolve, 300));
	assert.equal(page.history.address, "/prefix/?x=1#emerge&p.emerge.step=3");
});

test("an address that is pasted is followed", () => {
	const page = outer("#emerge");
	const store = new State(() => {}, page);
	page.go("#emerge&p.emerge.step=7&p.emerge.run=a");
	assert.equal(store.value.step, 7);
	assert.equal(store.value.run, "a");
});
