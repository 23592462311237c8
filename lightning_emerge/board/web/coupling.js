// Which filters of a convolution drive which of the next, as a graph.

import { choose } from "./dom.js";
import { filterOf, preferred } from "./filters.js";
import { countOf } from "./runs.js";

const MOST = 300; // edges that count
const FAINT = 120; // of the strongest others
const HEIGHT = 400;
const TOP = 34;
const SIDE = 14;
const KINDS = { effective: "by effect", weight: "by weight", activation: "by correlation" };

export const claims = (kind) => kind !== "activation"; // a correlation does not say what drives
const kinds = (run) => Object.keys(KINDS).filter((kind) => run.measure(`coupling_${kind}`)?.steps.length);
const chosen = (run, state) => choose(kinds(run), state.kind);

export const couplingView = {
	id: "coupling",
	title: "Coupling of filters",
	missing: (run) => (kinds(run).length ? "" : "This run has not recorded how filters couple. A CouplingProbe does: add --config probes/coupling to the fit."),
	choices: ({ run, state }) => [["kind", "Coupled", chosen(run, state), kinds(run).map((kind) => [kind, KINDS[kind]])]],
	about({ run, state }) {
		const measure = run.measure(`coupling_${chosen(run, state)}`);
		const lines = claims(chosen(run, state)) ? `couplings in ${measure.unit}: strong ones count at a false-discovery rate of 5%, dashed if below chance; thin grey ones are` : "no edges, but";
		return `${measure.about}. A column is a layer, a point a filter in the colour of the token that it answers most. Lines are ${lines} the strongest that do not count.`;
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
		const threshold = thresholds(scene, kind);
		const mark = `${name} ${got.step} ${threshold}`;
		if (scene.kept.get("edges")?.mark !== mark) scene.kept.set("edges", { mark, edges: strongest(got, threshold, kind) });
		const { edges } = scene.kept.get("edges");
		const counted = edges.filter((edge) => edge.counts).length;
		const strong = `${counted}${counted === MOST ? " or more" : ""} couplings count`;
		const none = claims(kind) ? "no coupling counts" : "correlations, which claim no edge";
		pen.text(0, 12, `Step ${scene.step}: ${counted ? strong : none}`, { bold: true });
		drawEdges(pen, scene, graph, edges);
		drawNodes(pen, scene, graph, width);
	},
};

export const endsOf = (pair) => pair.split(" > ");

/** Where each filter of each layer is drawn: always in the same place. */
function place(measure, width) {
	const [pairs] = measure.axes;
	const names = pairs.labels.map(endsOf);
	const layers = [names[0][0], ...names.map(([, next]) => next)];
	const { filters_in: incoming, filters_out: outgoing } = pairs.notes;
	const most = [countOf(measure.axes[2]), ...pairs.labels.map(() => countOf(measure.axes[1]))];
	const counts = layers.map((_, k) => (k ? outgoing?.[k - 1] : incoming?.[0]) ?? most[k]);
	const x = (layer) => SIDE + ((width - 2 * SIDE) * layer) / (layers.length - 1);
	const y = (layer, filter) => TOP + (HEIGHT * (filter + 0.5)) / counts[layer];
	return { layers, counts, x, y };
}

/** The smallest size that counts in each pair of layers, if any does. Only that of this very step says anything. */
export function thresholds(scene, kind) {
	const { run, step } = scene;
	const measure = run.measure("coupling_threshold");
	if (!claims(kind) || !measure?.steps.includes(step)) return [];
	const names = measure.axes[1].labels;
	const got = scene.have(run.values("coupling", "coupling_threshold", step));
	return got?.step === step ? Array.from(got.data).filter((_, k) => names[k % names.length] === kind) : [];
}

/** The strongest couplings of all pairs of layers: those that count, as `count_edges` has it, and some that do not. */
export function strongest({ data, shape }, threshold, kind) {
	const [, outputs, inputs] = shape;
	const sizeOf = (value) => (kind === "weight" ? value : Math.abs(value));
	const bins = new Uint32Array(1024);
	const toBin = (value) => Math.max(0, Math.min(1023, Math.floor(sizeOf(value) * 32))); // up to 32 standard deviations
	for (const value of data) if (value === value) bins[toBin(value)] += 1;
	let least = 1024;
	for (let many = 0; least > 0 && many < MOST + FAINT; ) many += bins[(least -= 1)];
	const found = [];
	data.forEach((value, k) => {
		if (value !== value) return;
		const output = Math.floor(k / inputs);
		const pair = Math.floor(output / outputs);
		const counts = sizeOf(value) >= threshold[pair];
		if (counts || toBin(value) >= least) found.push({ pair, output: output % outputs, input: k % inputs, value, counts });
	});
	found.sort((a, b) => sizeOf(a.value) - sizeOf(b.value));
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
