// What was fetched, and what to fetch next.

/** Values by key, up to a number of bytes; the least used is thrown away first. */
export class Shelf {
	constructor(limit) {
		this.limit = limit;
		this.bytes = 0;
		this.kept = new Map();
	}

	get(key) {
		const found = this.kept.get(key);
		if (!found) return undefined;
		this.kept.delete(key);
		this.kept.set(key, found);
		return found.value;
	}

	put(key, value, bytes) {
		this.drop(key);
		this.kept.set(key, { value, bytes });
		this.bytes += bytes;
		for (const old of this.kept.keys()) {
			if (this.bytes <= this.limit || old === key) break;
			this.drop(old);
		}
	}

	drop(key) {
		this.bytes -= this.kept.get(key)?.bytes ?? 0;
		this.kept.delete(key);
	}
}

/** Fetches one thing at a time for each slot, then what was asked for last; preloads when all is quiet. */
export class Desk {
	/** Keeps so many bytes, and calls `arrived` whenever something has come. */
	constructor(limit, arrived) {
		this.shelf = new Shelf(limit);
		this.arrived = arrived;
		this.slots = new Map();
		this.active = 0;
	}

	/**
	 * What is there, or undefined while it is fetched; {error} if it could not be.
	 * A slot shows one thing at a time. `ahead` are pairs of key and fetcher to preload, in this order.
	 */
	want(slot, key, fetcher, ahead = []) {
		const state = this.slots.get(slot) ?? {};
		this.slots.set(slot, state);
		if (state.key !== key) this.budget = 0.4 * this.shelf.limit; // for preloading, so that it ends where not all fits
		Object.assign(state, { key, ahead });
		const found = this.shelf.get(key);
		if (found !== undefined) {
			state.next = null;
			this.preload();
			return found;
		}
		state.next = [key, fetcher];
		this.pump(state);
		return undefined;
	}

	pump(state) {
		if (state.busy || !state.next) return;
		const [key, fetcher] = state.next;
		state.next = null;
		if (this.shelf.kept.has(key)) return;
		state.busy = true;
		this.active += 1;
		this.fetch(key, fetcher).then(() => {
			state.busy = false;
			this.active -= 1;
			this.arrived();
			this.pump(state);
			this.preload();
		});
	}

	async fetch(key, fetcher) {
		try {
			const value = await fetcher();
			this.shelf.put(key, value, value.bytes);
			return value.bytes;
		} catch (error) {
			this.shelf.put(key, { error: error.message }, 100);
			setTimeout(() => this.shelf.drop(key), 5000); // a run that is being written may answer later
			return 1e6;
		}
	}

	preload() {
		if (this.preloading || this.active > 0 || this.budget <= 0) return;
		for (const { ahead } of this.slots.values()) {
			const missing = ahead.find(([key]) => !this.shelf.kept.has(key));
			if (!missing) continue;
			this.preloading = true;
			this.fetch(...missing).then((bytes) => {
				this.preloading = false;
				this.budget -= bytes;
				this.preload();
			});
			return;
		}
	}
}
