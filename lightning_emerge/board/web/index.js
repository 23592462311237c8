// The Emerge tab: how a network comes to know what it knows, all views at the same step.

import { getJson } from "./api.js";
import { Biography, biographyView } from "./biography.js";
import { couplingView } from "./coupling.js";
import { curvesView } from "./curves.js";
import { el } from "./dom.js";
import { embeddingView } from "./embedding.js";
import { filtersView } from "./filters.js";
import { matrixView } from "./matrix.js";
import { Panel } from "./panel.js";
import { Run } from "./runs.js";
import { Desk } from "./shelf.js";
import { outerWindow, State } from "./state.js";
import { latest, union } from "./steps.js";
import { Timeline } from "./timeline.js";
import { Tip } from "./tip.js";

const KEPT = 256e6; // bytes of numbers
const LOOK = 2000; // milliseconds between two questions for new steps
const SCAN = 10_000; // and for new runs

const VIEWS = [
	matrixView({
		id: "matrix",
		title: "Dissimilarity by layer",
		fits: (name) => name !== "token_gradient_cosine",
		missing: "matrices; a SimilarityProbe does (--config vgg5)",
	}),
	curvesView,
	embeddingView,
	filtersView,
	couplingView,
	matrixView({
		id: "gradients",
		title: "Gradient agreement between tokens",
		fits: (name) => name === "token_gradient_cosine",
		missing: "gradients of tokens; a TokenGradientProbe does: add --config probes/gradients to the fit",
	}),
];

class App {
	constructor(root) {
		this.root = root;
		this.store = new State((changes) => this.changed(changes));
		this.desk = new Desk(KEPT, () => this.redraw());
		this.runs = new Map();
		this.index = [];
		this.wanted = [];
		this.shown = [];
		this.steps = [];
		this.timeline = new Timeline(this);
		this.panels = VIEWS.map((view) => new Panel(view, this));
		this.message = el("div", { class: "message", role: "status" });
		this.spoken = el("div", { class: "spoken", "aria-live": "polite" });
		this.main = el("main", {}, ...this.panels.map((panel) => panel.root));
		this.biography = new Biography(this, new Panel(biographyView, this));
		this.tip = new Tip(this, this.biography.root);
		root.append(this.timeline.root, this.message, this.main, this.biography.root, this.tip.root, this.spoken);
		this.paint();
	}

	/** Takes the colours that TensorBoard has. */
	paint() {
		const outer = outerWindow() === window ? null : outerWindow().document.body;
		const wished = matchMedia("(prefers-color-scheme: dark)");
		const update = () => {
			this.dark = outer ? outer.classList.contains("dark-mode") : wished.matches;
			document.documentElement.classList.toggle("dark", this.dark);
			const style = getComputedStyle(document.documentElement);
			const colours = ["ink", "soft", "line", "page"].map((name) => [name, style.getPropertyValue(`--${name}`)]);
			this.colours = { dark: this.dark, ...Object.fromEntries(colours) };
			this.redraw();
		};
		if (outer) new MutationObserver(update).observe(outer, { attributes: true, attributeFilter: ["class"] });
		wished.addEventListener("change", update);
		update();
	}

	async start() {
		await this.scan();
		this.begun = true;
		this.redraw();
		setInterval(() => document.hidden || this.scan(), SCAN);
		setInterval(() => document.hidden || this.look(), LOOK);
	}

	async scan() {
		try {
			this.index = (await getJson("index")).runs;
			this.failure = "";
			await this.pick();
		} catch (error) {
			this.failure = error.message;
		}
		this.redraw();
	}

	/** The run that comes first: the one that was chosen, or is shown, or else the last by name of those with looks. */
	get first() {
		const names = this.sound.map(({ run }) => run);
		const looked = this.sound.findLast(({ run, steps }) => steps && !this.runs.get(run)?.trouble);
		return [this.store.value.run, this.shown[0]?.name].find((name) => names.includes(name)) ?? looked?.run ?? names.at(-1);
	}

	/** Opens the runs that are to be shown. */
	async pick() {
		const { first } = this;
		const { run, other } = this.store.value;
		const wanted = [...new Set([first, other])].filter((name) => this.sound.some((one) => one.run === name));
		const opened = await Promise.all(wanted.map((name) => this.open(name)));
		if (first !== this.first || other !== this.store.value.other) {
			await this.pick(); // that one cannot be opened, or another was chosen meanwhile
			return;
		}
		this.wanted = wanted;
		this.show(opened.filter((one) => one.steps.length));
		if (!run && this.shown.length) this.store.set({ run: this.shown[0].name }); // so that the address means the same to a colleague
	}

	async open(name) {
		const run = this.runs.get(name) ?? new Run(name, this.desk);
		this.runs.set(name, run);
		await run.refresh(!run.info?.events.length); // the timeline comes when a fit is over
		return run;
	}

	show(runs) {
		this.shown = runs;
		this.steps = union(runs.map((run) => run.steps));
		runs.forEach((run) => run.sprite());
		this.main.hidden = !runs.length;
		this.redraw();
	}

	/** The runs that are not in trouble as far as is known. */
	get sound() {
		return this.index.filter((one) => !one.trouble);
	}

	/** Asks the runs that are shown for new steps. */
	async look() {
		const news = await Promise.all(this.shown.map((run) => run.refresh()));
		if (news.some(Boolean)) this.show(this.shown);
	}

	/** Says what is wrong, or what to do. */
	tell() {
		const say = ({ run, trouble }) => {
			const opened = this.runs.get(run);
			const words = trouble ?? opened?.trouble;
			if (words) return `${run}: ${words}`;
			return this.wanted.includes(run) && !opened.steps.length && `${run} has no looks: it has just begun, or it ended before its first.`;
		};
		const lines = [this.failure, ...this.index.map(say), ...(this.sound.length || this.failure ? [] : EMPTY)].filter(Boolean);
		if (this.told !== lines.join()) this.message.replaceChildren(...lines.map((line) => el("p", {}, line)));
		this.told = lines.join();
	}

	/** The step that is shown: the newest one unless the slider was moved. */
	get step() {
		const { step } = this.store.value;
		return step === null ? this.last : latest(this.steps, step);
	}

	get last() {
		return this.steps.at(-1);
	}

	/** The layer that is shown unless one was chosen: the last but one of those of which most views have numbers. */
	findLayer() {
		const [run] = this.shown;
		const lists = this.panels.map((panel) => panel.layers(run, true));
		const views = run.info.layers.map((layer) => lists.filter((list) => list.includes(layer)).length);
		const best = run.info.layers.filter((_, k) => views[k] === Math.max(...views));
		return best.at(-2) ?? best[0] ?? "";
	}

	go(step) {
		this.store.set({ step: latest(this.steps, step) });
	}

	pin(id) {
		const others = this.pins().filter((one) => one !== id);
		this.store.set({ pinned: (this.pins().includes(id) ? others : [...others, id]).join(",") });
	}

	pins() {
		return this.store.value.pinned.split(",").filter(Boolean);
	}

	changed(changes) {
		if ("run" in changes || "other" in changes) this.pick();
		this.redraw();
	}

	redraw() {
		if (this.scheduled) return;
		this.scheduled = true;
		requestAnimationFrame(() => {
			this.scheduled = false;
			this.draw();
		});
	}

	draw() {
		this.tell();
		this.timeline.draw();
		if (this.begun) this.root.dataset.ready = Boolean(this.complete || !this.shown.length);
		if (!this.shown.length) return;
		this.layer = this.findLayer();
		this.arrange();
		const seen = this.panels.filter((panel) => panel.seen);
		this.complete = [...seen.map((panel) => panel.draw()), this.biography.draw()].every(Boolean);
		if (!this.complete) return;
		if (!this.ready) this.redraw();
		this.root.dataset.ready = this.ready = true;
		this.root.dataset.step = this.step;
		this.root.dataset.drawn = performance.now();
	}

	arrange() {
		const pins = this.pins();
		const rank = ({ able, view: { id } }) => (pins.includes(id) ? pins.indexOf(id) : pins.length + !able.length);
		const wanted = this.panels.toSorted((a, b) => rank(a) - rank(b));
		if (wanted.every((panel, k) => this.main.children[k] === panel.root)) return;
		const focus = document.activeElement;
		this.main.append(...wanted.map((panel) => panel.root));
		focus.focus();
	}
}

const EMPTY = [
	"No run in this log directory has records yet.",
	"Train one with: lightning fit --config vgg5",
	"It appears here while it trains if TensorBoard reads its folder: lightning board runs",
];

/** TensorBoard calls this once, in a frame of our own. */
export async function render() {
	const style = el("link", { rel: "stylesheet", href: new URL("style.css", import.meta.url).href });
	const ready = new Promise((resolve) => style.addEventListener("load", resolve, { once: true }));
	document.head.append(style);
	document.documentElement.lang = "en";
	const root = el("div", { id: "emerge" });
	document.body.append(root);
	await ready;
	await new App(root).start();
}
