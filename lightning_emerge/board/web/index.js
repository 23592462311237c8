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
import { outerWindow, Store } from "./state.js";
import { latest, union } from "./steps.js";
import { Timeline } from "./timeline.js";
import { Tip } from "./tip.js";

const KEPT = 256e6; // bytes of numbers
const LOOK = 2000; // milliseconds between two questions for new steps
const SCAN = 10_000; // and for new runs

const LIGHT = { dark: false, ink: "#1c1c20", soft: "#5c6066", line: "#e2e3e6", page: "#ffffff" };
const DARK = { dark: true, ink: "#ececee", soft: "#b3b6bb", line: "#4a4a4e", page: "#2a2a2c" };

const VIEWS = [
	matrixView({
		id: "matrix",
		title: "Dissimilarity by layer",
		fits: (name) => name !== "token_gradient_cosine",
		missing: "This run has recorded no matrices. A SimilarityProbe does (configs/vgg5.yaml).",
	}),
	curvesView,
	embeddingView,
	filtersView,
	couplingView,
	matrixView({
		id: "gradients",
		title: "Gradient agreement between tokens",
		fits: (name) => name === "token_gradient_cosine",
		missing: "This run has not recorded tokens' gradients. A TokenGradientProbe does: add --config configs/probes/gradients.yaml to the fit.",
	}),
];

class App {
	constructor(root) {
		this.root = root;
		this.store = new Store((changes) => this.changed(changes));
		this.desk = new Desk(KEPT, () => this.redraw());
		this.runs = new Map();
		this.index = [];
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
			this.colours = this.dark ? DARK : LIGHT;
			document.documentElement.classList.toggle("dark", this.dark);
			this.redraw();
		};
		if (outer) new MutationObserver(update).observe(outer, { attributes: true, attributeFilter: ["class"] });
		wished.addEventListener("change", update);
		update();
	}

	async start() {
		const scan = () => document.hidden || this.attempt(() => this.scan());
		await this.attempt(() => this.scan());
		this.begun = true;
		this.redraw();
		setInterval(scan, SCAN);
		setInterval(() => document.hidden || this.attempt(() => this.look()), LOOK);
	}

	/** Does what may fail, and says so. */
	async attempt(work) {
		try {
			await work();
			} catch (error) {
			this.failure = error.message;
		}
		this.redraw();
	}

	async scan() {
		this.index = (await getJson("index")).runs;
		await this.pick();
	}

	/** Opens the runs that are to be shown. */
	async pick() {
		const { run, other } = this.store.value;
		const names = this.names();
		const first = names.includes(run) ? run : (names.find((name) => name === this.shown[0]?.name) ?? names.at(-1));
		if (first && !run) this.store.set({ run: first }); // so that the address means the same to a colleague
		const wanted = [first, ...(names.includes(other) && other !== first ? [other] : [])].filter(Boolean);
		const opened = await Promise.all(wanted.map((name) => this.open(name)));
		this.show(opened.filter((one) => one.steps.length));
	}

	async open(name) {
		const run = this.runs.get(name) ?? new Run(name, this.desk);
		this.runs.set(name, run);
		if (!run.info?.events.length) await run.load(); // the timeline comes when a fit is over
		return run;
	}

	show(runs) {
		this.shown = runs;
		this.steps = union(runs.map((run) => run.steps));
		runs.forEach((run) => run.sprite());
		this.main.hidden = this.timeline.root.hidden = !runs.length;
		this.redraw();
	}

	names() {
		return this.index.filter((one) => !one.trouble).map((one) => one.run);
	}

	/** Asks the runs that are shown for new steps. */
	async look() {
		const news = await Promise.all(this.shown.map((run) => run.refresh()));
		if (news.some(Boolean)) this.show(this.shown);
	}

	/** Says what is wrong, or what to do. */
	tell() {
		const troubles = this.index.filter((one) => one.trouble).map((one) => `${one.run}: ${one.trouble}`);
		const lines = [this.failure, ...troubles, ...(this.shown.length || this.failure ? [] : EMPTY)].filter(Boolean);
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

	/** The layer that is shown: the last but one unless one was chosen. */
	get layer() {
		const { layer } = this.store.value;
		const { layers } = this.shown[0];
		return layers.includes(layer) ? layer : (layers.at(-2) ?? layers[0] ?? "");
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
		if ("run" in changes || "other" in changes) this.attempt(() => this.pick());
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
		if (this.begun) this.root.dataset.ready = Boolean(this.complete || !this.shown.length);
		if (!this.shown.length) return;
		this.arrange();
		this.timeline.draw();
		const seen = this.panels.filter((panel) => panel.seen);
		this.complete = [...seen.map((panel) => panel.draw()), this.biography.draw()].every(Boolean);
		if (!this.complete) return;
		if (!this.ready) this.redraw();
		this.root.dataset.ready = this.ready = true;
		this.root.dataset.step = this.step;
		this.root.dataset.drawn = performance.now();
	}

	arrange() {
		const order = [...this.pins(), ...this.panels.map((panel) => panel.view.id)];
		const wanted = this.panels.toSorted((a, b) => order.indexOf(a.view.id) - order.indexOf(b.view.id));
		if (wanted.every((panel, k) => this.main.children[k] === panel.root)) return;
		const focus = document.activeElement;
		this.main.append(...wanted.map((panel) => panel.root));
		focus.focus();
	}
}

const EMPTY = [
	"No run in this log directory has records yet.",
	"Train one with: lightning fit --config configs/vgg5.yaml",
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
