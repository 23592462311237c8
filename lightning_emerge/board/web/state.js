// What is shown, kept in the address, so that a view can be sent to a colleague.

const PREFIX = "p.emerge.";

const WORDS = ["run", "other", "layer", "token", "filter", "pinned", "matrix", "points", "curves", "kind"];
/** What is shown when the address says nothing. A step of null is the newest one, which is followed. */
export const START = { step: null, scale: "log", ...Object.fromEntries(WORDS.map((key) => [key, ""])) };

/** What an address says, of what is known. */
export function readHash(hash) {
	const found = {};
	for (const [name, value] of new URLSearchParams(hash.slice(1))) {
		const key = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : "";
		if (!Object.hasOwn(START, key) || (key === "scale" && value !== "linear")) continue;
		if (key !== "step") found[key] = value;
		else if (/^\d{1,15}$/.test(value)) found.step = Number(value);
	}
	return found;
}

/** The address that says what is shown; what others keep there stays. */
export function writeHash(hash, state) {
	const others = hash.replace(/^#/, "").split("&").filter((part) => part && !part.startsWith(PREFIX));
	const own = Object.keys(START)
		.filter((key) => state[key] !== START[key])
		.map((key) => `${PREFIX}${key}=${encodeURIComponent(state[key])}`);
	return `#${[...others, ...own].join("&")}`;
}

/** TensorBoard's window, in a frame of which we are, or our own. */
export function outerWindow() {
	try {
		return window.parent.document && window.parent;
	} catch {
		return window;
	}
}

/** What is shown; says what has changed. */
export class State {
	constructor(heard, outer = outerWindow()) {
		this.heard = heard;
		this.outer = outer;
		this.value = { ...START, ...readHash(outer.location.hash) };
		this.hover = {};
		outer.addEventListener("hashchange", () => this.restore());
	}

	set(changes) {
		if (Object.keys(changes).every((key) => this.value[key] === changes[key])) return;
		Object.assign(this.value, changes);
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.write(), 250); // browsers refuse an address that changes too often
		this.heard(changes);
	}

	point(hover) {
		if (JSON.stringify(hover) === JSON.stringify(this.hover)) return;
		this.hover = hover;
		this.heard({});
	}

	write() {
		const { location, history } = this.outer;
		this.written = writeHash(location.hash, this.value);
		// The whole address, as a page may have another base than its own.
		if (this.written !== location.hash) history.replaceState(history.state, "", location.pathname + location.search + this.written);
	}

	restore() {
		if (this.outer.location.hash === this.written) return;
		const read = readHash(this.outer.location.hash);
		if (Object.keys(read).length) this.set({ ...START, ...read });
	}
}
