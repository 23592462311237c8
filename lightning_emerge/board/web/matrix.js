// Square matrices by layer: how far apart stimuli or tokens lie, how tokens' gradients agree, how alike layers are.

import { byteValue, diverges, palette, shownRange, valueColour } from "./colour.js";
import { choose, clip, digits } from "./dom.js";
import { countOf, labelOf, rangeOf } from "./runs.js";

const LEFT = 58;
const TOP = 24;
const FOOT = 44;
const GAP = 8;

/** Whether a measure is one square matrix, or one a layer. */
export function isMatrix(measure) {
	const [rows, columns] = measure.axes.slice(-2);
	const before = measure.axes.slice(0, -2);
	const square = rows && columns && columns.name === `${rows.name}_b` && countOf(rows) === countOf(columns);
	return Boolean(square && (before.length === 0 || (before.length === 1 && before[0].name === "layer")));
}

/** A view of the matrices that fit; of several, `id` of the state says which. */
export function matrixView({ id, title, fits, missing }) {
	const names = (run) => run.measures((measure, name) => isMatrix(measure) && fits(name));
	const chosen = (run, state) => choose(names(run), state[id], "rdm");
	return {
		id,
		title,
		missing: (run) => (names(run).length ? "" : missing),
		choices({ run, state, layer }) {
			const name = chosen(run, state);
			const all = names(run);
			const layers = layersOf(run.measure(name))?.labels;
			const measures = all.length > 1 ? [[id, "Measure", name, all]] : [];
			return layers ? [...measures, ["layer", "Layer", choose(layers, layer, layers.at(-1)), layers]] : measures;
		},
		about: ({ run, runs, state }) => sentence(run, runs, chosen(run, state)),
		height: ({ run, state }, width) => layout(run.measure(chosen(run, state)), width).height,
		draw: (pen, scene, width) => draw(pen, scene, width, chosen(scene.run, scene.state), id),
	};
}

const layersOf = (measure) => measure.axes.find((axis) => axis.name === "layer");

function sentence(run, runs, name) {
	const measure = run.measure(name);
	const rows = measure.axes.at(-2);
	const what = { stimulus: "stimuli, in the order of their tokens", token: "tokens", layer: "layers" }[rows.name] ?? rows.name;
	const range = rangeOf(runs, name) ?? [0, 1];
	const [low, high] = shownRange(range);
	const ends = diverges(range) ? ["purple", "orange"] : ["dark", "light"];
	const unit = measure.unit === "1" ? "" : ` (${measure.unit})`;
	return `${measure.about}. Rows and columns are ${countOf(rows)} ${what}; colour${unit} goes from ${digits(low)} (${ends[0]}) to ${digits(high)} (${ends[1]}), the same at every step, and grey is what could not be measured.`;
}

function layout(measure, width) {
	const layers = layersOf(measure);
	const many = layers && layers.labels.length > 1;
	const beside = many && width >= 520;
	const side = Math.round(beside ? Math.min(380, width * 0.45) : Math.min(380, width - LEFT - 8));
	if (!many) return { side, height: TOP + side + FOOT, tiles: [], tile: 0 };
	const left = beside ? LEFT + side + 26 : 0;
	const room = width - left;
	const count = layers.labels.length;
	const columns = beside ? Math.ceil(Math.sqrt((count * room) / (side + 40))) : Math.max(4, Math.floor(room / 100));
	const high = beside ? side / Math.ceil(count / columns) - 16 : 150;
	const tile = Math.floor(Math.min(room / columns - GAP, high, 150));
	const top = beside ? TOP : TOP + side + FOOT + 16;
	const tiles = layers.labels.map((_, k) => [left + (k % columns) * (tile + GAP), top + Math.floor(k / columns) * (tile + 16)]);
	const height = beside ? TOP + side + FOOT : tiles.at(-1)[1] + tile + 8;
	return { side, height, tiles, tile };
}

function draw(pen, scene, width, name, id) {
	const { run, runs, hover, ink } = scene;
	const measure = run.measure(name);
	const layers = layersOf(measure);
	const known = rangeOf(runs, name);
	const frame = scene.have(run.frame(id, name, scene.step, scene.layer));
	if (!frame) return;
	scene.step = frame.step;
	const range = shownRange(known ?? frame.range);
	const { side, tile, tiles } = layout(measure, width);
	const at = layers ? run.layerOf(name, layers.labels.includes(hover.layer) ? hover.layer : scene.layer) : 0;
	const inFrame = (k) => (frame.first === undefined ? k : k === frame.first ? 0 : -1);
	const show = { pen, scene, measure, frame, range, name, side };
	tiles.forEach(([x, y], k) => {
		if (inFrame(k) < 0) return;
		const label = layers.labels[k];
		pen.text(x, y - 4, label, { size: 10, bold: k === at });
		pen.image(picture(show, inFrame(k), `tile ${k}`), x, y, tile, tile);
		if (k === at) pen.rect(x - 1.5, y - 1.5, tile + 3, tile + 3, { stroke: ink, weight: 2 });
		scene.hit([x, y - 14, tile, tile + 14], `Layer ${label}`, { layer: label }, scene.openLayer(label));
	});
	drawLarge(show, layers ? layers.labels[at] : "", Math.max(0, inFrame(at)));
	drawLegend(show);
}

function drawLarge(show, label, layer) {
	const { pen, scene, measure, side } = show;
	const rows = measure.axes.at(-2);
	const count = countOf(rows);
	pen.text(LEFT, TOP - 8, `${label && `${label}, `}step ${scene.step}`, { bold: true });
	pen.image(picture(show, layer, "large"), LEFT, TOP, side, side);
	pen.rect(LEFT, TOP, side, side, { stroke: scene.soft });
	const value = (row, column) => byteValue(show.frame.data[(layer * count + row) * count + column], show.frame.range);
	if (rows.name === "stimulus") drawBlocks(show, count);
	else drawNames(show, rows, value);
	const position = (at, from) => Math.floor(((at - from) / side) * count);
	const find = (x, y) => found(scene, measure, label, value, position(y, TOP), position(x, LEFT));
	scene.hit([LEFT, TOP, side - 0.01, side - 0.01], `${label || "Matrix"} at step ${scene.step}`, label ? { layer: label } : {}, undefined, find);
}

function found({ run }, measure, layer, value, y, x) {
	const rows = measure.axes.at(-2);
	const stimuli = rows.name === "stimulus";
	const [row, column] = stimuli ? [run.order[y], run.order[x]] : [y, x];
	if (row === undefined || column === undefined) return null;
	const what = layer ? { layer } : {};
	if (stimuli) Object.assign(what, { stimulus: row, other: column, token: run.tokens[run.tokenOf[row]] });
	else if (["token", "layer"].includes(rows.name)) what[rows.name] = labelOf(rows, row);
	const unit = measure.unit === "1" ? "" : ` (${measure.unit})`;
	return { what, label: `${labelOf(rows, row)} and ${labelOf(rows, column)}: ${digits(value(row, column))}${unit}` };
}

function drawBlocks({ pen, scene, side }, count) {
	const { run, hover, only } = scene;
	const size = side / count;
	let from = 0;
	run.tokens.forEach((token, k) => {
		const length = run.tokenOf.filter((one) => one === k).length * size;
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
	const at = run.order.indexOf(hover.stimulus) * size;
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

function drawNames({ pen, scene, range, side }, rows, value) {
	const { hover, only, ink } = scene;
	const count = countOf(rows);
	const size = side / count;
	for (let k = 0; k < count; k += 1) {
		const words = labelOf(rows, k);
		const middle = (k + 0.5) * size;
		if (rows.name === "token") drawToken(pen, scene, words, middle, side);
		else pen.text(LEFT - 5, TOP + middle + 4, clip(words, 9), { size: 10, align: "right", bold: hover.layer === words });
		if ([only, hover.layer].includes(words)) pen.rect(LEFT, TOP + k * size, side, size, { stroke: ink, weight: 2 });
		for (let j = 0; j < (size < 34 ? 0 : count); j += 1) {
			const [r, g, b] = valueColour(value(k, j), range);
			const fill = 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#000000" : "#ffffff";
			pen.text(LEFT + (j + 0.5) * size, TOP + middle + 4, digits(value(k, j)), { fill, align: "center" });
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
	const more = measure.unit.startsWith("1 - ") ? " or more" : "";
	pen.text(LEFT, y + 9, low);
	pen.image(bar, x, y, wide, 10);
	pen.text(x + wide + 6, y + 9, `${high}${more}${measure.unit === "1" ? "" : `  ${measure.unit}`}`);
}

/** A layer's matrix as a small canvas. */
function picture({ scene, measure, frame, range, name }, layer, spot) {
	const rows = measure.axes.at(-2);
	const count = countOf(rows);
	const { order } = scene.run;
	const mark = `${name} ${frame.step} ${layer} ${range} ${frame.range}`;
	return scene.canvas(spot, mark, count, count, (bytes) => {
		const pixels = new Uint32Array(bytes.buffer);
		const colours = palette(frame.range, range);
		const start = layer * count * count;
		for (let row = 0; row < count; row += 1) {
			const from = start + (rows.name === "stimulus" ? order[row] : row) * count;
			const to = row * count;
			if (rows.name === "stimulus") for (let column = 0; column < count; column += 1) pixels[to + column] = colours[frame.data[from + order[column]]];
			else for (let column = 0; column < count; column += 1) pixels[to + column] = colours[frame.data[from + column]];
		}
	});
}
