// The bar at the top: runs, the one slider that moves everything, and what plays it.

import { tokenColour, tokenShape } from "./colour.js";
import { el, fill } from "./dom.js";
import { tellEvent } from "./events.js";
import { SvgPen } from "./pen.js";
import { moved, nearest, place, ticks } from "./steps.js";

const FINE = 10_000;
const PAUSE = 140; // milliseconds from look to look while playing

export class Timeline {
	constructor(app) {
		this.app = app;
		const { store } = app;
		[this.run, this.other] = ["run", "other"].map((id) => el("select", { id, onchange: ({ target }) => store.set({ [id]: target.value }) }));
		const slide = () => app.go(nearest(app.steps, this.slider.value / FINE, store.value.scale));
		this.slider = el("input", { type: "range", id: "step", max: FINE, "aria-label": "Optimizer step", oninput: slide });
		this.play = el("button", { id: "play", onclick: () => this.toggle() }, "Play");
		const toggle = () => store.set({ scale: store.value.scale === "log" ? "linear" : "log" });
		this.scale = el("button", { id: "scale", title: "Change how steps are spaced", onclick: toggle });
		this.follow = el("button", { id: "follow", onclick: () => store.set({ step: null }) }, "Follow newest");
		this.output = el("output", { for: "step", id: "now" });
		this.marks = el("div", { class: "marks", "aria-hidden": "true" });
		this.tokens = el("div", { class: "tokens", role: "group", "aria-label": "Highlight a token" });
		const track = el("div", { class: "track" }, this.slider, this.marks);
		const runs = el("div", { class: "runs" }, el("label", {}, "Run ", this.run), el("label", {}, "Beside ", this.other), this.tokens);
		this.steps = el("div", { class: "steps" }, this.play, track, this.output, this.scale, this.follow);
		this.root = el("div", { class: "bar", role: "region", "aria-label": "Runs and steps" }, runs, this.steps);
		new ResizeObserver(() => this.draw(true)).observe(this.marks);
		document.addEventListener("keydown", (event) => this.key(event));
	}

	key(event) {
		const { target } = event;
		if (event.altKey || event.ctrlKey || event.metaKey || target.closest("select")) return;
		const { app } = this;
		if (!app.shown.length) return;
		const onSlider = target === this.slider && { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
		const by = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity, ...onSlider }[event.key];
		if (by !== undefined) app.go(moved(app.steps, app.step, by));
		else if (event.key === " " && !target.closest("button, a")) this.toggle();
		else return;
		event.preventDefault();
	}

	toggle(playing = !this.playing) {
		const { app } = this;
		this.playing = playing;
		this.play.textContent = playing ? "Pause" : "Play";
		clearTimeout(this.timer);
		if (!playing) return;
		if (app.step === app.last) app.go(app.steps[0]);
		this.waited = 0;
		this.timer = setTimeout(() => this.tick(), PAUSE);
	}

	/** Goes on to the next look once this one is drawn, or has let us wait for long. */
	tick() {
		const { app } = this;
		this.waited += PAUSE;
		if (app.complete || this.waited > 10 * PAUSE) {
			this.waited = 0;
			app.go(moved(app.steps, app.step, 1));
		}
		if (app.step === app.last) this.toggle(false);
		else this.timer = setTimeout(() => this.tick(), PAUSE);
	}

	draw(again = false) {
		const { app } = this;
		const { steps, step, shown } = app;
		const [first, other] = app.wanted;
		const names = app.sound.map(({ run, steps: looks }) => [run, looks ? run : `${run} (no looks)`]);
		fill(this.run, names, first);
		fill(this.other, [["", "no other run"], ...names.filter(([run]) => run !== first)], other ?? "");
		this.root.hidden = !names.length;
		this.steps.hidden = this.tokens.hidden = !shown.length;
		if (!shown.length) return;
		const { scale, step: wanted, token } = app.store.value;
		const last = app.last;
		this.slider.value = FINE * place(step, last, scale);
		this.output.textContent = `step ${step} of ${last}`;
		this.slider.setAttribute("aria-valuetext", `${this.output.textContent}, look ${steps.indexOf(step) + 1} of ${steps.length}`);
		this.scale.textContent = scale === "log" ? "Log steps" : "Linear steps";
		this.follow.setAttribute("aria-pressed", wanted === null);
		const mark = JSON.stringify([last, scale, app.dark, token, shown[0].tokens, shown[0].info.events]);
		if (!again && mark === this.mark) return;
		this.mark = mark;
		this.drawMarks(last, scale);
		this.drawTokens();
	}

	drawMarks(last, scale) {
		const { app } = this;
		const width = this.marks.clientWidth;
		if (!width) return;
		const pen = new SvgPen(width, 30);
		const x = (step) => 8 + (width - 16) * place(step, last, scale); // 8 is half of the slider's thumb
		for (const tick of ticks(last, scale)) {
			pen.line([[x(tick), 11], [x(tick), 15]], { stroke: app.colours.soft });
			pen.text(x(tick), 27, String(tick), { fill: app.colours.soft, align: tick === last ? "right" : "center" });
		}
		const [run] = app.shown;
		for (const event of run.info.events.filter((one) => one.group === "token" && Number.isFinite(one.step))) {
			const k = run.tokens.indexOf(event.name);
			pen.marks([[x(event.step), 6]], 5, tokenShape(k), { fill: tokenColour(k, app.dark) });
			const node = pen.root.lastChild;
			node.setAttribute("class", "event");
			node.addEventListener("click", () => app.go(event.step));
			app.tip.attach(node, { label: tellEvent(event), what: { token: event.name } });
		}
		this.marks.replaceChildren(pen.root);
	}

	drawTokens() {
		const { app } = this;
		const { tokens } = app.shown[0];
		const names = JSON.stringify([tokens, app.dark, app.shown[0].info.events]);
		if (this.names !== names) this.tokens.replaceChildren(...tokens.map((token, k) => this.tokenButton(token, k)));
		this.names = names;
		[...this.tokens.children].forEach((button, k) => button.setAttribute("aria-pressed", app.store.value.token === tokens[k]));
	}

	tokenButton(token, k) {
		const { dark, store, tip } = this.app;
		const pen = new SvgPen(14, 14);
		pen.marks([[7, 7]], 5, tokenShape(k), { fill: tokenColour(k, dark) });
		const press = () => store.set({ token: store.value.token === token ? "" : token });
		const event = this.app.shown[0].info.events.find((one) => one.group === "token" && one.name === token);
		const label = event ? `Highlight ${token}. ${tellEvent(event)}` : `Highlight ${token}`;
		return tip.attach(el("button", { onclick: press }, pen.root, token), { label, what: { token } });
	}
}
