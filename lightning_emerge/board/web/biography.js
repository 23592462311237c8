// One filter's life: what excites it and how it changes, over all steps.

import { drawAxes, drawLines, linesOf, spanOf } from "./chart.js";
import { el } from "./dom.js";
import { drawTile } from "./filters.js";
import { axisNames, countOf } from "./runs.js";
import { nearest } from "./steps.js";

const SIDE = 58;
const CHART = 120;
const ROOM = CHART + 52;
const STRIP = 148;
const MOST = 14; // lines in a chart

/** The layer and the number of the filter that is open. */
function opened({ filter }) {
	const cut = filter.lastIndexOf("/");
	return { layer: filter.slice(0, cut), number: Number(filter.slice(cut + 1)) };
}

/** Whether a measure has numbers of a filter. */
function holds(measure, { layer, number }) {
	const names = axisNames(measure);
	const [layers, filters] = measure.axes;
	return names[0] === "layer" && names[1] === "filter" && layers.labels.includes(layer) && number < countOf(filters);
}

function chartsOf(run, state) {
	const fits = ({ axes }) => axes.length === 2 || (axes.length === 3 && ["token", "feature"].includes(axes[2].name) && countOf(axes[2]) <= MOST);
	const found = run.measures((measure) => holds(measure, opened(state)) && fits(measure));
	return found.toSorted((a, b) => (b === "filter_response") - (a === "filter_response"));
}

function stripOf(run, state, width) {
	const measure = run.measure("top_crop");
	if (!measure?.steps.length || !holds(measure, opened(state))) return [];
	const count = Math.min(10, Math.floor(width / (SIDE + 8)));
	return [...new Set(Array.from({ length: count }, (_, k) => nearest(measure.steps, k / (count - 1), state.scale)))];
}

const columnsOf = (width) => Math.max(1, Math.floor(width / 300));

export const biographyView = {
	id: "biography",
	title: "Biography of a filter",
	missing: (run, state) => (chartsOf(run, state).length ? "" : "This run has recorded nothing of this filter."),
	choices: () => [],
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
			drawChart(pen, scene, name, [(k % columns) * wide, (steps.length && STRIP) + Math.floor(k / columns) * ROOM, wide - 16]);
		});
	},
};

function drawMoment(pen, scene, step, k) {
	const { run, state, soft } = scene;
	const { layer, number } = opened(state);
	const first = run.measure("top_crop").axes[0].labels.indexOf(layer);
	const x = k * (SIDE + 8);
	pen.text(x, 12, `step ${step}`, { fill: soft });
	const crops = scene.have(run.once("top_crop", step, first));
	const stimuli = run.measure("top_stimulus") && scene.have(run.once("top_stimulus", step, first));
	if (!crops) return;
	const exemplars = crops.shape[1];
	for (let one = 0; one < Math.min(2, exemplars); one += 1) {
		const y = 18 + one * (SIDE + 4);
		drawTile(pen, scene, crops, number * exemplars + one, `life ${k} ${one}`, [x, y, SIDE], [0, 1]);
		const stimulus = stimuli?.data[number * exemplars + one];
		if (!run.info.stimuli[stimulus]) continue;
		scene.frame(pen, x, y, SIDE, stimulus);
		const { id, token } = run.info.stimuli[stimulus];
		scene.hit([x, y, SIDE, SIDE], `${id} at step ${step}`, { stimulus, token });
	}
}

function drawChart(pen, scene, name, [x, y, wide]) {
	const { run, state } = scene;
	const measure = run.measure(name);
	const { layer, number } = opened(state);
	const got = scene.have(run.series(name, `${measure.axes[0].labels.indexOf(layer)},${number}`));
	pen.text(x, y + 14, `${name}${measure.unit === "1" ? "" : `, ${measure.unit}`}`, { bold: true });
	if (!got) return;
	const axis = measure.axes[2];
	const lines = linesOf(scene, axis, got, axis ? countOf(axis) : 1, 0);
	const range = spanOf([...got.data]);
	if (!range) {
		pen.text(x + 44, y + 60, "could not be measured", { fill: scene.soft });
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
