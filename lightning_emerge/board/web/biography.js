// One filter's life: what excites it and how it changes, over all steps.

import { drawAxes, drawLines, linesOf, spanOf } from "./chart.js";
import { corner, el } from "./dom.js";
import { drawExemplar, drawTile } from "./filters.js";
import { countOf } from "./runs.js";
import { nearest } from "./steps.js";

const SIDE = 58;
const CHART = 120;
const ROOM = CHART + 52;
const STRIP = 148;

/** The layer and the number of the filter that is open. */
function opened({ filter }) {
	const cut = filter.lastIndexOf("/");
	return { layer: filter.slice(0, cut), number: Number(filter.slice(cut + 1)) };
}

/** Whether a measure has numbers of the filter that is open. */
function holds(run, name, state) {
	const { layer, number } = opened(state);
	return run.layerOf(name, layer) >= 0 && number < countOf(run.measure(name).axes[1]);
}

function chartsOf(run, state) {
	const found = run.measures("filter").filter((name) => holds(run, name, state));
	return found.toSorted((a, b) => (b === "filter_response") - (a === "filter_response"));
}

function stripOf(run, state, width) {
	if (!holds(run, "top_crop", state)) return [];
	const { steps } = run.measure("top_crop");
	const count = Math.min(10, Math.floor(width / (SIDE + 8)));
	return [...new Set(Array.from({ length: count }, (_, k) => nearest(steps, k / (count - 1), state.scale)))];
}

const columnsOf = (width) => Math.max(1, Math.floor(width / 300));

export const biographyView = {
	id: "biography",
	title: "Biography of a filter",
	missing: (run, state) => (chartsOf(run, state).length ? "" : "This run has recorded nothing of this filter."),
	about({ run, state }) {
		const { layer, number } = opened(state);
		const strip = stripOf(run, state, 300).length ? "Above, the two stimuli that excited it most at some steps, cut to what it sees. " : "";
		return `Filter ${number} of ${layer}. ${strip}Curves run over optimizer steps; the upright line is the step.`;
	},
	height({ run, state }, width) {
		return (stripOf(run, state, width).length && STRIP) + Math.ceil(chartsOf(run, state).length / columnsOf(width)) * ROOM + 8;
	},
	draw(pen, scene, width) {
		const steps = stripOf(scene.run, scene.state, width);
		steps.forEach((step, k) => drawMoment(pen, scene, step, k));
		const columns = columnsOf(width);
		const wide = width / columns;
		chartsOf(scene.run, scene.state).forEach((name, k) => {
			const [x, y] = corner(k, columns, wide, ROOM);
			drawChart(pen, scene, name, [x, y + (steps.length && STRIP), wide - 16]);
		});
	},
};

function drawMoment(pen, scene, step, k) {
	const { run, state, soft } = scene;
	const { layer, number } = opened(state);
	const first = run.layerOf("top_crop", layer);
	const x = k * (SIDE + 8);
	pen.text(x, 12, `step ${step}`, { fill: soft });
	const crops = scene.have(run.once("top_crop", step, first));
	const stimuli = run.measure("top_stimulus") && scene.have(run.once("top_stimulus", step, first));
	if (!crops) return;
	const exemplars = crops.shape[1];
	for (let one = 0; one < Math.min(2, exemplars); one += 1) {
		const y = 18 + one * (SIDE + 4);
		drawTile(pen, scene, crops, number * exemplars + one, `life ${k} ${one}`, [x, y, SIDE]);
		drawExemplar(pen, scene, [x, y, SIDE, SIDE], stimuli?.data[number * exemplars + one], `at step ${step}`);
	}
}

function drawChart(pen, scene, name, [x, y, wide]) {
	const { run, state } = scene;
	const measure = run.measure(name);
	const { layer, number } = opened(state);
	const got = scene.have(run.series(name, `${run.layerOf(name, layer)},${number}`));
	pen.text(x, y + 14, [name, measure.unit].filter(Boolean).join(", "), { bold: true });
	if (!got) return;
	const axis = measure.axes[2];
	const lines = linesOf(scene, axis, got, axis ? countOf(axis) : 1, 0);
	const range = spanOf([...got.data]);
	if (!range) {
		scene.sayNothing(pen, x + 44, y + 60);
		return;
	}
	drawLines(pen, scene, lines, got.steps, drawAxes(pen, scene, [x + 50, y + 26, wide - 64, CHART - 6], range, 2));
}

/** The window in which a biography is read. */
export class Biography {
	constructor(app, panel) {
		this.app = app;
		this.panel = panel;
		const close = el("button", { class: "close", onclick: () => this.root.close() }, "Close");
		this.root = el("dialog", { "aria-labelledby": panel.title.id, onclose: () => app.store.set({ filter: "" }) }, close, panel.root);
		panel.pin.hidden = true;
	}

	/** Opens, draws or closes as the state says. Returns whether all was there. */
	draw() {
		const { filter } = this.app.store.value;
		if (!/^.+\/\d{1,6}$/.test(filter)) {
			if (this.root.open) this.root.close();
			return true;
		}
		if (!this.root.open) this.root.showModal();
		const { layer, number } = opened({ filter });
		this.panel.title.textContent = `Filter ${number} of ${layer}`;
		return this.panel.draw();
	}
}
