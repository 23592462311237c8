// Square matrices by layer: how far apart stimuli or tokens lie, how tokens' gradients agree, how alike layers are.

import { byteValue, palette, shownRange, tokenColour, tokenShape, valueColour, diverges } from "./colour.js";
import { digits } from "./dom.js";
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

/**
 * A view of matrices.
 * @param key of the state that says which measure is shown, or "" if there is no choice.
 * @param fits which matrices it may show.
 * @param first which to show if none was chosen.
 */
export function matrixView({ id, title, key, fits, first, missing }) {
  const names = (run) => run.measures((measure, name) => isMatrix(measure) && fits(name));
  const chosen = (run, state) => {
    const all = names(run);
    return all.find((name) => name === state[key]) ?? all.find((name) => first.includes(name)) ?? all[0];
  };
  return {
    id,
    title,
    missing: (run) => (names(run).length ? "" : missing),
    choices({ run, state, layer }) {
      const name = chosen(run, state);
      const found = [];
      if (names(run).length > 1) {
        found.push({ key, label: "Measure", value: name, options: names(run).map((one) => [one, one]) });
      }
      const axis = layersOf(run.measure(name));
      if (axis) found.push({ key: "layer", label: "Layer", value: nearLayer(axis, layer), options: axis.labels.map((one) => [one, one]) });
      return found;
    },
    about: ({ run, runs, state }) => sentence(run, runs, chosen(run, state)),
    height: ({ run, state }, width) => layout(run.measure(chosen(run, state)), width).height,
    draw: (pen, scene, width) => draw(pen, scene, width, chosen(scene.run, scene.state), id),
  };
}

const layersOf = (measure) => measure.axes.find((axis) => axis.name === "layer");
const nearLayer = (axis, layer) => (axis.labels.includes(layer) ? layer : axis.labels.at(-1));

function sentence(run, runs, name) {
  const measure = run.measure(name);
  const rows = measure.axes.at(-2);
  const what = { stimulus: "stimuli, in the order of their tokens", token: "tokens", layer: "layers" }[rows.name] ?? `positions of ${rows.name}`;
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
  let best = { tile: 0, columns: 1 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const high = beside ? side / rows - 16 : Infinity;
    const tile = Math.floor(Math.min(room / columns - GAP, high, 150));
    if (tile > best.tile && (beside || columns >= 4)) best = { tile, columns };
  }
  const tile = best.tile;
  const top = beside ? TOP : TOP + side + FOOT + 16;
  const tiles = layers.labels.map((_, k) => ({
    x: left + (k % best.columns) * (tile + GAP),
    y: top + Math.floor(k / best.columns) * (tile + 16),
  }));
  const height = beside ? TOP + side + FOOT : tiles.at(-1).y + tile + 8;
  return { side, height, tiles, tile };
}

function draw(pen, scene, width, name, id) {
  const { run, runs, hover, ink } = scene;
  const measure = run.measure(name);
  const layers = layersOf(measure);
  const known = rangeOf(runs, name);
  const got = run.frame(id, name, scene.step, scene.layer, known);
  scene.fresh = got.fresh;
  scene.note = got.error ?? "";
  if (!got.value) return;
  const frame = got.value;
  scene.step = frame.step;
  const range = shownRange(known ?? frame.range);
  const place = layout(measure, width);
  const at = layers ? run.layerOf(name, hover.layer && layers.labels.includes(hover.layer) ? hover.layer : scene.layer) : 0;
  const inFrame = (k) => (frame.first === undefined ? k : k === frame.first ? 0 : -1);
  const show = { pen, scene, measure, frame, range, name };
  place.tiles.forEach(({ x, y }, k) => {
    if (inFrame(k) < 0) return;
    const label = layers.labels[k];
    pen.text(x, y - 4, label, { fill: ink, size: 10, bold: k === at });
    pen.image(picture(show, inFrame(k), `tile ${k}`), x, y, place.tile, place.tile);
    if (k === at) pen.rect(x - 1.5, y - 1.5, place.tile + 3, place.tile + 3, { stroke: ink, weight: 2 });
    const open = () => scene.app.store.set({ layer: label });
    scene.targets.push({ x, y: y - 14, width: place.tile, height: place.tile + 14, label: `Layer ${label}`, what: { layer: label }, open });
  });
  drawLarge(show, place.side, at, Math.max(0, inFrame(at)));
  drawLegend(show, place.side);
}

function drawLarge(show, side, at, layer) {
  const { pen, scene, measure } = show;
  const { ink, soft } = scene;
  const layers = layersOf(measure);
  const rows = measure.axes.at(-2);
  const count = countOf(rows);
  const label = layers ? layers.labels[at] : "";
  pen.text(LEFT, TOP - 8, `${label}${label ? ", " : ""}step ${scene.step}`, { fill: ink, bold: true });
  pen.image(picture(show, layer, "large"), LEFT, TOP, side, side);
  pen.rect(LEFT, TOP, side, side, { stroke: soft });
  if (rows.name === "stimulus") drawBlocks(show, side, count);
  else drawNames(show, side, rows, layer);
  const value = (row, column) => byteValue(show.frame.data[layer * count * count + row * count + column], show.frame.range);
  const find = (x, y) => found(show, rows, label, value, Math.floor(((y - TOP) / side) * count), Math.floor(((x - LEFT) / side) * count));
  const words = `${label || "Matrix"} at step ${scene.step}`;
  scene.targets.push({ x: LEFT, y: TOP, width: side - 0.01, height: side - 0.01, label: words, what: layers ? { layer: label } : {}, at: find });
}

function found({ scene, measure }, rows, layer, value, y, x) {
  const { run } = scene;
  const ordered = rows.name === "stimulus" && run.order.length === countOf(rows);
  const [row, column] = ordered ? [run.order[y], run.order[x]] : [y, x];
  if (row === undefined || column === undefined) return null;
  const what = layer ? { layer } : {};
  if (ordered) Object.assign(what, { stimulus: row, other: column, token: run.tokens[run.tokenOf[row]] });
  else if (rows.name === "token") what.token = labelOf(rows, row);
  else if (rows.name === "layer") what.layer = labelOf(rows, row);
  const unit = measure.unit === "1" ? "" : ` (${measure.unit})`;
  return { what, label: `${labelOf(rows, row)} and ${labelOf(rows, column)}: ${digits(value(row, column))}${unit}` };
}

function drawBlocks({ pen, scene }, side, count) {
  const { run, hover, dark, ink } = scene;
  const size = side / count;
  let start = 0;
  run.tokens.forEach((token, k) => {
    const many = run.tokenOf.filter((one) => one === k).length;
    if (!many) return;
    const [from, length] = [start * size, many * size];
    drawToken(pen, scene, token, k, TOP + from + length / 2);
    if (start) {
      pen.line([[LEFT - 4, TOP + from], [LEFT, TOP + from]], { stroke: ink });
      pen.line([[LEFT + from, TOP + side], [LEFT + from, TOP + side + 4]], { stroke: ink });
    }
    pen.marks([[LEFT + from + length / 2, TOP + side + 8]], 4, tokenShape(k), { fill: tokenColour(k, dark) });
    if (hover.token === token || scene.state.token === token) {
      const style = { stroke: tokenColour(k, true), weight: 2 };
      pen.rect(LEFT, TOP + from, side, length, style);
      pen.rect(LEFT + from, TOP, length, side, style);
    }
    start += many;
  });
  if (hover.stimulus === undefined) return;
  const at = run.order.indexOf(hover.stimulus);
  pen.rect(LEFT, TOP + at * size, side, Math.max(1, size), { fill: "#ffffff", alpha: 0.6 });
  pen.rect(LEFT + at * size, TOP, Math.max(1, size), side, { fill: "#ffffff", alpha: 0.6 });
}

function drawToken(pen, { dark, ink, hover, state }, token, k, y) {
  const bold = hover.token === token || state.token === token;
  pen.marks([[LEFT - 10, y]], 4, tokenShape(k), { fill: tokenColour(k, dark) });
  pen.text(LEFT - 18, y + 4, clip(token, 7), { fill: ink, size: 11, align: "right", bold });
}

function drawNames({ pen, scene, frame, range }, side, rows, layer) {
  const { run, ink, hover } = scene;
  const count = countOf(rows);
  const size = side / count;
  for (let k = 0; k < count; k += 1) {
    const words = labelOf(rows, k);
    const y = TOP + (k + 0.5) * size;
    const token = rows.name === "token" ? run.tokens.indexOf(words) : -1;
    if (token >= 0) {
      drawToken(pen, scene, words, token, y);
      pen.marks([[LEFT + (k + 0.5) * size, TOP + side + 8]], 4, tokenShape(token), { fill: tokenColour(token, scene.dark) });
    } else {
      pen.text(LEFT - 5, y + 4, clip(words, 9), { fill: ink, size: 10, align: "right", bold: hover.layer === words });
    }
    if (hover.token === words || hover.layer === words) pen.rect(LEFT, TOP + k * size, side, size, { stroke: ink, weight: 2 });
    for (let j = 0; size >= 34 && j < count; j += 1) {
      const value = byteValue(frame.data[layer * count * count + k * count + j], frame.range);
      const [r, g, b] = valueColour(value, range);
      const fill = 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#000000" : "#ffffff";
      pen.text(LEFT + (j + 0.5) * size, y + 4, Number.isFinite(value) ? value.toFixed(2) : "none", { fill, size: 11, align: "center" });
    }
  }
}

function drawLegend({ pen, scene, measure, range, name }, side) {
  const { ink } = scene;
  const y = TOP + side + 20;
  const wide = Math.min(160, side * 0.5);
  const bar = keep(scene, `bar ${range} ${name}`, 100, 1, (pixels) => {
    pixels.set(Array.from({ length: 100 }, (_, k) => pack(valueColour(range[0] + ((range[1] - range[0]) * k) / 99, range))));
  });
  const more = /^1 - /.test(measure.unit) ? " or more" : "";
  const low = digits(range[0]);
  pen.text(LEFT, y + 9, low, { fill: ink, size: 11 });
  const x = LEFT + 8 + 7 * low.length;
  pen.image(bar, x, y, wide, 10);
  pen.text(x + wide + 6, y + 9, `${digits(range[1])}${more}${measure.unit === "1" ? "" : `  ${measure.unit}`}`, { fill: ink, size: 11 });
}

const pack = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

/** A layer's matrix as a small canvas, painted anew only if it has changed. */
function picture({ scene, measure, frame, range, name }, layer, spot) {
  const rows = measure.axes.at(-2);
  const count = countOf(rows);
  const order = rows.name === "stimulus" && scene.run.order.length === count ? scene.run.order : null;
  const mark = `${name} ${frame.step} ${layer} ${range} ${frame.range}`;
  return keep(scene, spot, count, count, (pixels) => {
    const colours = palette(frame.range, range);
    const { data } = frame;
    const start = layer * count * count;
    if (!order || order.every((value, k) => value === k)) {
      for (let k = 0; k < pixels.length; k += 1) pixels[k] = colours[data[start + k]];
      return;
    }
    for (let row = 0; row < count; row += 1) {
      const from = start + order[row] * count;
      for (let column = 0; column < count; column += 1) pixels[row * count + column] = colours[data[from + order[column]]];
    }
  }, mark);
}

/** A small canvas that is kept with the cell, painted anew only if its mark has changed. */
export function keep(scene, spot, width, height, paint, mark = spot) {
  const kept = scene.memory.kept;
  let one = kept.get(spot);
  if (one?.mark === mark && one.canvas.width === width) return one.canvas;
  if (!one || one.canvas.width !== width || one.canvas.height !== height) {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    one = { canvas, context, data: context.createImageData(width, height) };
    kept.set(spot, one);
  }
  paint(new Uint32Array(one.data.data.buffer), one.data.data);
  one.context.putImageData(one.data, 0, 0);
  one.mark = mark;
  return one.canvas;
}

export const clip = (words, most) => (words.length > most ? `${words.slice(0, most - 1)}…` : words);
