// Square matrices by layer: how far apart stimuli or tokens lie, how tokens' gradients agree, how alike layers are.

import { byteValue, diverges, palette, shownRange, valueColour } from "./colour.js";
import { clip, corner, digits } from "./dom.js";
import { countOf, labelOf, rangeOf, sizeOf } from "./runs.js";

const LEFT = 58;
const TOP = 24;
const FOOT = 44;
const GAP = 8;
const EXACT = 65_536; // numbers that are fetched beside their colours

/** A view of the matrices that fit; of several, `id` of the state says which. */
export function matrixView({ id, title, fits, missing }) {
	return {
		id,
		title,
		missing,
		key: id,
		better: ["rdm"],
		names: (run) => run.measures("matrix").filter(fits),
		about: sentence,
		height: ({ measure }, width) => layout(measure, width).height,
		draw: (pen, scene, width) => draw(pen, scene, width, id),
	};
}

/** The layers of which there is a matrix each; none for one matrix of all layers. */
const layersOf = ({ axes }) => (axes.length === 3 ? axes[0].labels : []);

function sentence({ runs, name, measure }) {
	const rows = measure.axes.at(-2);
	const what = { stimulus: "stimuli, in the order of their tokens", token: "tokens", layer: "layers" }[rows.name] ?? rows.name;
	const range = rangeOf(runs, name) ?? [0, 1];
	const [low, high] = shownRange(range).map(digits);
	const ends = diverges(range) ? ["purple", "orange"] : ["dark", "light"];
	const unit = measure.unit && ` (${measure.unit})`;
	return `${measure.about}. Rows and columns are ${countOf(rows)} ${what}; colour${unit} goes from ${low} (${ends[0]}) to ${high} (${ends[1]}), the same at every step, and grey is what could not be measured.`;
}

function layout(measure, width) {
	const layers = layersOf(measure);
	const count = layers.length;
	const many = count > 1;
	const beside = many && width >= 520;
	const side = Math.round(beside ? Math.min(380, width * 0.45) : Math.min(380, width - LEFT - 8));
	if (!many) return { side, height: TOP + side + FOOT, tiles: [], tile: 0 };
	const left = beside ? LEFT + side + 26 : 0;
	const room = width - left;
	const columns = beside ? Math.ceil(Math.sqrt((count * room) / (side + 40))) : Math.max(4, Math.floor(room / 100));
	const high = beside ? side / Math.ceil(count / columns) - 16 : 150;
	const tile = Math.floor(Math.min(room / columns - GAP, high, 150));
	const top = beside ? TOP : TOP + side + FOOT + 16;
	const tiles = layers.map((_, k) => corner(k, columns, tile + GAP, tile + 16)).map(([x, y]) => [left + x, top + y]);
	const height = beside ? TOP + side + FOOT : tiles.at(-1)[1] + tile + 8;
	return { side, height, tiles, tile };
}

function draw(pen, scene, width, id) {
	const { run, runs, hover, name, measure, layer } = scene;
	const layers = layersOf(measure);
	const frame = scene.have(run.frame(id, name, scene.step, layers.indexOf(layer)));
	if (!frame) return;
	scene.step = frame.step;
	const range = shownRange(rangeOf(runs, name) ?? frame.range);
	const { side, tile, tiles } = layout(measure, width);
	const rows = measure.axes.at(-2);
	const count = countOf(rows);
	const stimuli = rows.name === "stimulus";
	const order = stimuli ? run.info.order : [...Array(count).keys()];
	const at = frame.first ?? layers.indexOf(layers.includes(hover.layer) ? hover.layer : layer);
	const from = frame.first ?? 0; // the only layer of a frame that has one
	const exact = sizeOf(measure) > EXACT ? undefined : scene.have(run.values(id, name, frame.step));
	const show = { pen, scene, measure, frame, exact, range, side, rows, count, stimuli, order };
	tiles.forEach(([x, y], k) => {
		if (frame.first !== undefined && k !== from) return;
		const label = layers[k];
		pen.text(x, y - 4, label, { size: 10, bold: k === at });
		pen.image(picture(show, k - from, `tile ${k}`), x, y, tile, tile);
		if (k === at) scene.light(pen, [x, y, tile, tile]);
		scene.hit([x, y - 14, tile, tile + 14], `Layer ${label}`, { layer: label }, scene.openLayer(label));
	});
	drawLarge(show, layers[at] ?? "", Math.max(0, at - from));
	drawLegend(show);
}

function drawLarge(show, label, layer) {
	const { pen, scene, side, count } = show;
	pen.text(LEFT, TOP - 8, `${label && `${label}, `}step ${scene.step}`, { bold: true });
	pen.image(picture(show, layer, "large"), LEFT, TOP, side, side);
	pen.rect(LEFT, TOP, side, side, { stroke: scene.soft });
	const at = (row, column) => (layer * count + row) * count + column;
	if (show.stimuli) drawBlocks(show);
	else drawNames(show, at);
	const position = (place) => show.order[Math.floor((place / side) * count)];
	const find = (x, y) => found(show, label, at, position(y - TOP), position(x - LEFT));
	scene.hit([LEFT, TOP, side - 0.01, side - 0.01], `${label || "Matrix"} at step ${scene.step}`, label ? { layer: label } : {}, undefined, find);
}

/** A number in words: with no more places than a byte has if the number itself was not fetched. */
export function inWords({ frame: { data, range, step }, exact }, k) {
	if (exact?.step === step) return digits(exact.data[k]);
	const places = Math.floor(-Math.log10((range[1] - range[0]) / 254));
	return digits(Number(byteValue(data[k], range).toFixed(Math.min(9, Math.max(0, places)))));
}

function found(show, layer, at, row, column) {
	const { scene: { run }, measure, rows, stimuli } = show;
	if (row === undefined || column === undefined) return null;
	const what = layer ? { layer } : {};
	if (stimuli) Object.assign(what, { stimulus: row, other: column, token: run.tokens[run.info.token_of[row]] });
	else if (["token", "layer"].includes(rows.name)) what[rows.name] = labelOf(rows, row);
	const unit = measure.unit && ` (${measure.unit})`;
	return { what, label: `${labelOf(rows, row)} and ${labelOf(rows, column)}: ${inWords(show, at(row, column))}${unit}` };
}

function drawBlocks({ pen, scene, side, count }) {
	const { run, hover, only } = scene;
	const size = side / count;
	let from = 0;
	run.tokens.forEach((token, k) => {
		const length = run.info.token_of.filter((one) => one === k).length * size;
		if (!length) return;
		drawToken(pen, scene, token, from + length / 2, side);
		if (only === token) {
			const style = { stroke: scene.colour(k), weight: 2 };
			pen.rect(LEFT, TOP + from, side, length, style);
			pen.rect(LEFT + from, TOP, length, side, style);
		}
		from += length;
	});
	if (hover.stimulus === undefined) return;
	const at = run.info.order.indexOf(hover.stimulus) * size;
	const thick = Math.max(1, size);
	pen.rect(LEFT, TOP + at, side, thick, { fill: "#ffffff", alpha: 0.6 });
	pen.rect(LEFT + at, TOP, thick, side, { fill: "#ffffff", alpha: 0.6 });
}

/** Names a token beside the matrix, and marks it below. */
function drawToken(pen, scene, token, at, side) {
	const k = scene.run.tokens.indexOf(token);
	scene.mark(pen, LEFT - 10, TOP + at, 4, k);
	scene.mark(pen, LEFT + at, TOP + side + 8, 4, k);
	pen.text(LEFT - 18, TOP + at + 4, clip(token, 7), { align: "right", bold: scene.only === token });
}

function drawNames(show, at) {
	const { pen, scene, range, frame, side, rows, count } = show;
	const { hover, only, ink } = scene;
	const size = side / count;
	for (let k = 0; k < count; k += 1) {
		const words = labelOf(rows, k);
		const middle = (k + 0.5) * size;
		if (rows.name === "token") drawToken(pen, scene, words, middle, side);
		else pen.text(LEFT - 5, TOP + middle + 4, clip(words, 9), { size: 10, align: "right", bold: hover.layer === words });
		if ([only, hover.layer].includes(words)) pen.rect(LEFT, TOP + k * size, side, size, { stroke: ink, weight: 2 });
		for (let j = 0; j < (size < 34 ? 0 : count); j += 1) {
			const [r, g, b] = valueColour(byteValue(frame.data[at(k, j)], frame.range), range);
			const fill = 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#000000" : "#ffffff";
			pen.text(LEFT + (j + 0.5) * size, TOP + middle + 4, inWords(show, at(k, j)), { fill, align: "center" });
		}
	}
}

function drawLegend({ pen, scene, measure, range, side }) {
	const y = TOP + side + 20;
	const wide = Math.min(160, side * 0.5);
	const bar = scene.canvas("bar", String(range), 100, 1, (bytes) => {
		for (let k = 0; k < 100; k += 1) bytes.set([...valueColour(range[0] + ((range[1] - range[0]) * k) / 99, range), 255], 4 * k);
	});
	const [low, high] = range.map(digits);
	const x = LEFT + 8 + 7 * low.length;
	pen.text(LEFT, y + 9, low);
	pen.image(bar, x, y, wide, 10);
	pen.text(x + wide + 6, y + 9, `${high}  ${measure.unit}`);
}

/** A layer's matrix as a small canvas. */
function picture({ scene, frame, range, count, order }, layer, spot) {
	const mark = `${scene.name} ${frame.step} ${layer} ${range} ${frame.range}`;
	return scene.canvas(spot, mark, count, count, (bytes) => {
		const pixels = new Uint32Array(bytes.buffer);
		const colours = palette(frame.range, range);
		const start = layer * count * count;
		for (let row = 0; row < count; row += 1) {
			const from = start + order[row] * count;
			for (let column = 0; column < count; column += 1) pixels[row * count + column] = colours[frame.data[from + order[column]]];
		}
	});
}
