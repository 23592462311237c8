// Stimuli as points in a plane, by layer.

import { tokenShape } from "./colour.js";
import { corner } from "./dom.js";
import { countOf } from "./runs.js";
import { latest, lookAt } from "./steps.js";

const GAP = 10;
const HEAD = 18;

function layout(measure, width) {
	const count = countOf(measure.axes[0]);
	const columns = count <= 4 && width < 800 ? Math.ceil(count / 2) : Math.min(count, 4);
	const side = Math.min(250, Math.floor(width / columns - GAP));
	return { side, columns, height: Math.ceil(count / columns) * (side + HEAD) + 4 };
}

export const embeddingView = {
	id: "embedding",
	title: "Stimuli in each layer",
	missing: "distances between stimuli; an EmbeddingProbe or a SimilarityProbe does (--config vgg5)",
	key: "points",
	label: "Made of",
	better: ["distances"],
	everyLayer: true,
	names: (run) => run.measures("points"),
	about({ measure }) {
		return `Each point is one of ${countOf(measure.axes[1])} stimuli, its colour and shape the token; the nearer two lie, the more alike the layer answers them (classical multidimensional scaling of ${measure.unit}; each layer has its own scale, the same at every step, and directions mean nothing).`;
	},
	height: ({ measure }, width) => layout(measure, width).height,
	draw(pen, scene, width) {
		const { run, hover, ink, line, soft, name, measure } = scene;
		const { side, columns } = layout(measure, width);
		measure.axes[0].labels.forEach((layer, k) => {
			const [x, top] = corner(k, columns, side + GAP, side + HEAD);
			const y = top + HEAD;
			const lit = hover.layer === layer;
			pen.rect(x + 0.5, y + 0.5, side - 1, side - 1, { stroke: lit ? ink : line, weight: lit ? 2 : 1 });
			pen.text(x + 2, y - 5, layer, { bold: layer === scene.layer || lit });
			scene.hit([x, y, side, side], `Layer ${layer}`, { layer }, scene.openLayer(layer));
			// Asked for once all else is there, and not waited for: of a long run they take the server seconds.
			const { value: points, error } = scene.app.ready ? run.points(name, k) : {};
			if (points) drawPoints(pen, scene, points, { x, y, side, layer });
			else pen.text(x + 8, y + 20, error ?? "being laid out …", { fill: soft });
		});
		scene.step = latest(measure.steps, scene.step);
	},
};

/** The largest coordinate at any step, which is the scale of all. */
function extent(points) {
	points.extent ??= points.data.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0) || 1;
	return points.extent;
}

function drawPoints(pen, scene, points, { x, y, side, layer }) {
	const { run, hover, only, ink } = scene;
	const row = lookAt(points.steps, scene.step);
	const [, count] = points.shape;
	const scale = (side / 2 - 8) / extent(points);
	const at = (k) => {
		const from = 2 * (row * count + k);
		return [x + side / 2 + scale * points.data[from], y + side / 2 - scale * points.data[from + 1]];
	};
	const known = run.info.order.filter((k) => k < count && Number.isFinite(at(k)[0]));
	if (!known.length) scene.sayNothing(pen, x + 8, y + 20);
	run.tokens.forEach((token, number) => {
		const places = known.filter((k) => run.info.token_of[k] === number).map(at);
		const faded = only && only !== token;
		pen.marks(places, faded ? 2 : 3, tokenShape(number), { fill: scene.colour(number), alpha: faded ? 0.25 : 0.85 });
	});
	for (const k of [hover.stimulus, hover.other]) {
		if (k === undefined || !known.includes(k)) continue;
		scene.mark(pen, ...at(k), 6, run.info.token_of[k], { stroke: ink, weight: 2 });
	}
	const nearest = (px, py) => {
		let best = { k: -1, away: 100 };
		for (const k of known) {
			const [a, b] = at(k);
			const away = (a - px) ** 2 + (b - py) ** 2;
			if (away < best.away) best = { k, away };
		}
		if (best.k < 0) return null;
		const { id, token } = run.info.stimuli[best.k];
		return { label: id, what: { stimulus: best.k, token, layer }, open: scene.openLayer(layer) };
	};
	scene.hit([x, y, side, side], `${layer}, ${known.length} stimuli`, { layer }, scene.openLayer(layer), nearest);
}
