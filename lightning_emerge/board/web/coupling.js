// Which filters of a convolution drive which of the next, as a graph.

import { choose } from "./dom.js";
import { filterOf, preferred } from "./filters.js";
import { countOf } from "./runs.js";
import { latest } from "./steps.js";

const MOST = 300; // edges that count
const FAINT = 120; // of the strongest others
const HEIGHT = 400;
const TOP = 34;
const SIDE = 14;
const KINDS = { effective: "by effect", weight: "by weight", activation: "by correlation" };

const kinds = (run) => Object.keys(KINDS).filter((kind) => run.measure(`coupling_${kind}`)?.steps.length);
const chosen = (run, state) => choose(kinds(run), state.kind);

export const couplingView = {
	id: "coupling",
	title: "Coupling of filters",
	missing: (run) => (kinds(run).length ? "" : "This run has not recorded how filters couple. A CouplingProbe does: add --config configs/probes/coupling.yaml to the fit."),
	choices: ({ run, state }) => [["kind", "Coupled", chosen(run, state), kinds(run).map((kind) => [kind, KINDS[kind]])]],
	about({ run, state }) {
		const measure = run.measure(`coupling_${chosen(run, state)}`);
		return `${measure.about}. A column is a layer, a point one of its filters in the colour of the token that it answers most. Lines are couplings in ${measure.unit}: strong ones count at a false-discovery rate of 5%, dashed if below chance; thin grey ones are the strongest that do not count.`;
	},
	height: () => HEIGHT + TOP + 12,
	draw(pen, scene, width) {
		const { run, state } = scene;
		const kind = chosen(run, state);
		const name = `coupling_${kind}`;
		const got = scene.have(run.values("coupling", name, scene.step));
		if (!got) return;
		scene.step = got.step;
		const graph = place(run.measure(name), width);
		const threshold = thresholdOf(scene, kind);
		const mark = `${name} ${got.step} ${threshold}`;
		if (scene.kept.get("edges")?.mark !== mark) scene.kept.set("edges", { mark, edges: strongest(got, threshold) });
		const { edges } = scene.kept.get("edges");
		const counted = edges.filter((edge) => edge.counts).length;
		const strong = `${counted}${counted === MOST ? " or more" : ""} couplings count`;
		pen.text(0, 12, `Step ${scene.step}: ${counted ? strong : "no coupling counts"}`, { bold: true });
		drawEdges(pen, scene, graph, edges);
		drawNodes(pen, scene, graph, width);
	},
};

/** Where each filter of each layer is drawn: always in the same place. */
function place(measure, width) {
	const [pairs] = measure.axes;
	const names = pairs.labels.map((label) => label.split(" > "));
	const layers = [names[0][0], ...names.map(([, next]) => next)];
	const { filters_in: incoming, filters_out: outgoing } = pairs.notes;
	const most = [countOf(measure.axes[2]), ...pairs.labels.map(() => countOf(measure.axes[1]))];
	const counts = layers.map((_, k) => (k ? outgoing?.[k - 1] : incoming?.[0]) ?? most[k]);
	const x = (layer) => SIDE + ((width - 2 * SIDE) * layer) / (layers.length - 1);
	const y = (layer, filter) => TOP + (HEIGHT * (filter + 0.5)) / counts[layer];
	return { layers, counts, x, y };
}

/** The smallest strength that counts in each pair of layers, or infinity. Only that of this very step says anything. */
function thresholdOf(scene, kind) {
	const { run, step } = scene;
	const measure = run.measure("coupling_threshold");
	const pairs = countOf(run.measure(`coupling_${kind}`).axes[0]);
	const none = Array.from({ length: pairs }, () => Infinity);
	if (!measure || !measure.steps.includes(latest(run.measure(`coupling_${kind}`).steps, step))) return none;
	const got = scene.have(run.values("coupling", "coupling_threshold", step));
	const names = measure.axes[1].labels;
	const at = names.indexOf(kind);
	if (!got || at < 0) return none;
	return none.map((_, pair) => {
		const value = got.data[pair * names.length + at];
		return Number.isFinite(value) ? value : Infinity;
	});
}

/** The strongest couplings of all pairs of layers: those that count, and some that do not. */
export function strongest({ data, shape }, threshold) {
	const [pairs, outputs, inputs] = shape;
	const size = outputs * inputs;
	const bins = new Uint32Array(1024);
	const toBin = (value) => Math.min(1023, Math.floor(Math.abs(value) * 32)); // up to 32 standard deviations
	for (let k = 0; k < data.length; k += 1) if (data[k] === data[k]) bins[toBin(data[k])] += 1;
	let least = 1024;
	for (let many = 0; least > 0 && many < MOST + FAINT; ) many += bins[(least -= 1)];
	const found = [];
	for (let pair = 0; pair < pairs; pair += 1) {
		for (let k = pair * size; k < (pair + 1) * size; k += 1) {
			const value = data[k];
			if (value !== value) continue;
			const counts = Math.abs(value) >= threshold[pair];
			if (counts || toBin(value) >= least) found.push({ pair, output: Math.floor((k % size) / inputs), input: k % inputs, value, counts });
		}
	}
	found.sort((a, b) => Math.abs(a.value) - Math.abs(b.value));
	return [...found.filter((edge) => !edge.counts).slice(-FAINT), ...found.filter((edge) => edge.counts).slice(-MOST)];
}

function drawEdges(pen, scene, { layers, x, y }, edges) {
	const { hover, ink, soft } = scene;
	const top = Math.max(1, ...edges.map((edge) => Math.abs(edge.value)));
	for (const { pair, output, input, value, counts } of edges) {
		const ends = [filterOf(layers[pair], input), filterOf(layers[pair + 1], output)];
		const lit = ends.includes(hover.filter);
		const faded = hover.filter && !lit;
		const alpha = lit ? 1 : faded ? 0.1 : counts ? 0.75 : 0.3;
		const weight = (counts ? 0.6 + 2.2 * (Math.abs(value) / top) : 0.6) + (lit ? 0.8 : 0);
		const style = { stroke: counts || lit ? ink : soft, weight, alpha, dash: value < 0 ? [4, 3] : [] };
		pen.line([[x(pair), y(pair, input)], [x(pair + 1), y(pair + 1, output)]], style);
	}
}

function drawNodes(pen, scene, { layers, counts, x, y }, width) {
	const { run, hover, only, ink, soft } = scene;
	const axes = run.measure("filter_response")?.axes;
	const response = axes && scene.have(run.values("coupling", "filter_response", scene.step));
	layers.forEach((layer, k) => {
		const align = { 0: "left", [layers.length - 1]: "right" }[k] ?? "center";
		const at = { left: 0, center: x(k), right: width }[align];
		const short = width < 60 * layers.length ? layer.replace(/^conv/, "") : layer;
		pen.text(at, TOP - 8, short, { align, bold: hover.layer === layer || scene.layer === layer });
		scene.hit([x(k) - 20, TOP - 20, 40, 16], `Layer ${layer}`, { layer }, scene.openLayer(layer));
		const number = response ? axes[0].labels.indexOf(layer) : -1;
		const r = Math.min(4, (0.42 * HEIGHT) / counts[k]);
		for (let filter = 0; filter < counts[k]; filter += 1) {
			const token = number < 0 ? -1 : preferred(response.data, number * countOf(axes[1]) + filter, run.tokens.length);
			const name = run.tokens[token];
			const id = filterOf(layer, filter);
			const lit = hover.filter === id;
			const style = { fill: name ? scene.colour(token) : soft, alpha: (only ?? name) === name ? 1 : 0.2, stroke: lit && ink, weight: 2 };
			pen.marks([[x(k), y(k, filter)]], lit ? 5 : Math.max(1.4, r), "disk", style);
			const label = `Filter ${filter} of ${layer}${name ? `: answers ${name} most` : ""}; its biography`;
			scene.spot(x(k), y(k, filter), Math.max(3, r), label, { layer, filter: id, ...(name && { token: name }) }, scene.openFilter(id));
		}
	});
}
