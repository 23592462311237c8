// Filters of a layer: kernels, images that excite them most, stimuli that do, and which token each prefers.

import { corner } from "./dom.js";
import { countOf } from "./runs.js";

const SIDE = 50;
const GAP = 4;
const NUMBER = 30;
const SQUARE = 11;
const ROW = 22; // height of a heading

const OF_LAYERS = ["top_crop", "maximising_image", "filter_response"];
/** Their layer, which earlier versions say in words. */
const kernelLayer = ({ axes, about }) => (axes.length > 4 ? axes[0].labels[0] : about);
const kernelsOf = (run) => [run.measure("kernels") ?? []].flat();
const layersOf = (run, full) => [...new Set([...kernelsOf(run).map(kernelLayer), ...run.layers(OF_LAYERS, full)])];

export const filterOf = (layer, filter) => `${layer}/${filter}`;

function layout({ run, layer, kept }, width) {
	const [crops, images, response] = OF_LAYERS.map((name) => run.layerOf(name, layer));
	const count = (k, axis = 1) => ([crops, images, response][k] < 0 ? 0 : countOf(run.measure(OF_LAYERS[k]).axes[axis]));
	const exemplars = count(0, 2);
	const most = kept.get(`filters of ${layer}`) ?? Infinity;
	const cards = Math.min(most, Math.max(count(0), count(1)));
	const wide = NUMBER + (exemplars + (images >= 0)) * (SIDE + GAP) + 8;
	const columns = Math.max(1, Math.floor(width / wide));
	const own = kernelsOf(run).find((k) => kernelLayer(k) === layer);
	const kernels = own ? countOf(own.axes.at(-4)) : 0;
	const all = Math.min(most, count(2));
	const perRow = [Math.floor(width / (SIDE + GAP)), Math.floor(width / SQUARE)];
	const below = Math.ceil(cards / columns) * (SIDE + 2 * GAP) + (cards && ROW);
	const last = below + (kernels && Math.ceil(kernels / perRow[0]) * (SIDE + GAP + 12) + ROW);
	const height = last + (all && Math.ceil(all / perRow[1]) * SQUARE + ROW);
	return { crops, images, response, exemplars, cards, wide, columns, kernels, all, perRow, tops: [ROW, below + ROW, last + ROW], height };
}

export const filtersView = {
	id: "filters",
	title: "Filters",
	missing: (run) =>
		layersOf(run).length
			? ""
			: "This run has recorded no filters. A TopExemplarProbe and a FilterProbe do (--config vgg5), and a MaximisationProbe (--config probes/filters).",
	layers: layersOf,
	about(scene) {
		const { images, exemplars, kernels, all } = layout(scene, 600);
		const parts = [];
		if (images >= 0) parts.push("the image that excites each most (pixels 0 to 1)");
		if (exemplars) parts.push(`the ${exemplars} stimuli that excite each most, cut to what it sees, framed in the colour of their token`);
		const rows = `Filters of ${scene.layer}${parts.length ? ` by number, with ${parts.join(", then ")}` : ""}.`;
		const tiles = kernels ? " Kernels are weights, grey for 0, the same range at every step." : "";
		const pale = scene.run.layerOf("filter_selective", scene.layer) < 0 ? "" : " pale if it is not selective,";
		const squares = all ? ` A small square is a filter in the colour of the token that it answers most,${pale} empty if it is silent.` : "";
		return `${rows}${tiles}${squares} Choose one for its biography.`;
	},
	height: (scene, width) => layout(scene, width).height,
	draw(pen, scene, width) {
		const place = layout(scene, width);
		if (place.cards) drawCards(pen, scene, place);
		if (place.kernels) drawKernels(pen, scene, place);
		if (place.all) drawAll(pen, scene, place);
	},
};

/** The numbers of a measure at the step, of one layer if it is given. */
function valuesOf(scene, name, first) {
	return first < 0 || !scene.run.measure(name) ? undefined : scene.have(scene.run.values("filters", name, scene.step, first));
}

function heading(pen, words, values, y) {
	pen.text(0, y - 9, values ? `${words}, step ${values.step}` : words, { bold: true });
}

/** Says that a filter can be pointed at, and lights it. */
function offer(pen, scene, filter, words, box, what = {}) {
	const id = filterOf(scene.layer, filter);
	if (scene.hover.filter === id) scene.light(pen, box);
	scene.hit(box, `${words}; its biography`, { layer: scene.layer, filter: id, ...what }, scene.openFilter(id));
}

function drawCards(pen, scene, place) {
	const { layer, soft } = scene;
	const crops = valuesOf(scene, "top_crop", place.crops);
	const stimuli = valuesOf(scene, "top_stimulus", place.crops);
	const images = valuesOf(scene, "maximising_image", place.images);
	heading(pen, `Strongest for filters of ${layer}`, crops ?? images, place.tops[0]);
	for (let filter = 0; filter < place.cards; filter += 1) {
		const [left, top] = corner(filter, place.columns, place.wide, SIDE + 2 * GAP);
		const y = place.tops[0] + top;
		pen.text(left + NUMBER - 7, y + SIDE / 2 + 4, String(filter), { fill: soft, align: "right" });
		offer(pen, scene, filter, `Filter ${filter} of ${layer}`, [left, y, place.wide - 8, SIDE]);
		let x = left + NUMBER;
		if (images && filter < images.shape[0]) drawTile(pen, scene, images, filter, `image ${filter}`, [x, y, SIDE]);
		if (images) x += SIDE + GAP;
		const many = filter < (crops?.shape[0] ?? 0) ? place.exemplars : 0;
		for (let k = 0; k < many; k += 1, x += SIDE + GAP) {
			const number = filter * place.exemplars + k;
			drawTile(pen, scene, crops, number, `crop ${number}`, [x, y, SIDE]);
			drawExemplar(pen, scene, [x, y, SIDE, SIDE], stimuli?.data[number], `excites filter ${filter} of ${layer}`, filterOf(layer, filter));
		}
	}
}

/** Frames a stimulus that excites a filter, fades it beside one that is lit, and says which it is. */
export function drawExemplar(pen, scene, box, stimulus, words, filter) {
	const { run, hover, only, page } = scene;
	if (!run.info.stimuli[stimulus]) return;
	const { id, token } = run.info.stimuli[stimulus];
	if (only && only !== token) pen.rect(...box, { fill: page, alpha: 0.7 });
	scene.frame(pen, ...box.slice(0, 3), stimulus);
	if (hover.stimulus === stimulus) scene.light(pen, box);
	scene.hit(box, `${id} ${words}`, { stimulus, token, ...(filter && { layer: scene.layer, filter }) }, filter && scene.openFilter(filter));
}

/** Draws one of many pictures (channel, y, x), its values in a range. */
export function drawTile(pen, scene, values, number, spot, [x, y, side], range = [0, 1]) {
	const [channels, high, wide] = values.shape.slice(-3);
	const mark = `${scene.layer} ${scene.state.filter} ${number} ${values.step}`;
	const paint = (bytes) => rgb(values.data, number * channels * high * wide, channels, bytes, range);
	pen.image(scene.canvas(spot, mark, wide, high, paint), x, y, side, side);
}

/** Turns a picture (channel, y, x) into the bytes of pixels; grey is what is not there. */
export function rgb(data, start, channels, bytes, [low, high]) {
	const pixels = bytes.length / 4;
	for (let k = 0; k < pixels; k += 1) {
		for (let c = 0; c < 3; c += 1) {
			const value = data[start + (channels === 3 ? c * pixels : 0) + k];
			bytes[4 * k + c] = Number.isNaN(value) ? 165 : ((value - low) * 255) / (high - low);
		}
		bytes[4 * k + 3] = 255;
	}
}

function drawKernels(pen, scene, { kernels, perRow, tops }) {
	const values = valuesOf(scene, "kernels");
	heading(pen, `Kernels of ${scene.layer}`, values, tops[1]);
	if (!values) return;
	const [channels, high, wide] = values.shape.slice(-3);
	const most = 4 / Math.sqrt(channels * high * wide);
	for (let filter = 0; filter < kernels; filter += 1) {
		const [x, top] = corner(filter, perRow[0], SIDE + GAP, SIDE + GAP + 12);
		const y = tops[1] + top;
		drawTile(pen, scene, values, filter, `kernel ${filter}`, [x, y, SIDE], [-most, most]);
		pen.text(x + SIDE / 2, y + SIDE + 11, String(filter), { fill: scene.soft, size: 10, align: "center" });
		offer(pen, scene, filter, `Kernel ${filter} of ${scene.layer}`, [x, y, SIDE, SIDE]);
	}
}

function drawAll(pen, scene, { response, all, perRow, tops }) {
	const { run, layer, only, line } = scene;
	const values = valuesOf(scene, "filter_response", response);
	const selective = valuesOf(scene, "filter_selective", run.layerOf("filter_selective", layer));
	heading(pen, `All filters of ${layer}`, values, tops[2]);
	if (!values) return;
	const tokens = Array.from({ length: all }, (_, filter) => preferred(values.data, filter, run.tokens.length));
	const count = tokens.findLastIndex((token) => token !== null) + 1;
	if (!count) scene.sayNothing(pen, 0, tops[2] + 10);
	else if (count < all) {
		scene.kept.set(`filters of ${layer}`, count); // a layer of fewer than others
		scene.app.redraw();
	}
	for (let filter = 0; filter < count; filter += 1) {
		const token = tokens[filter];
		const [x, top] = corner(filter, perRow[1], SQUARE, SQUARE);
		const y = tops[2] + top;
		const name = run.tokens[token];
		const alpha = only && name !== only ? 0.12 : !selective || selective.data[filter] === 1 ? 1 : 0.4;
		if (name) pen.rect(x, y, SQUARE - 2, SQUARE - 2, { fill: scene.colour(token), alpha });
		else pen.rect(x + 0.5, y + 0.5, SQUARE - 3, SQUARE - 3, { stroke: line });
		const words = `Filter ${filter} of ${layer}: ${name ? `answers ${name} most` : token === null ? "could not be measured" : "silent"}`;
		offer(pen, scene, filter, words, [x, y, SQUARE - 2, SQUARE - 2], name && { token: name });
	}
}

/** The token that a filter answers most; -1 if it is silent, null if there is no such filter. */
export function preferred(data, filter, tokens) {
	let best = null;
	for (let k = filter * tokens; k < (filter + 1) * tokens; k += 1) {
		if (Number.isFinite(data[k]) && (best === null || data[k] > data[best])) best = k;
	}
	if (best === null) return null;
	return data[best] === 0 ? -1 : best - filter * tokens;
}
