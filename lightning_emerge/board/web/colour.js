// Colours, which readers with any colour vision can tell apart, and the same in TensorBoard as in the package's pictures.

import { SHAPES } from "./pen.js";

const TOKENS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442"];
const ON_DARK = { "#0072B2": "#3d9fe0", "#000000": "#ffffff", "#D55E00": "#ee7733" };
const NAMES = Object.keys(SHAPES);

const parse = (hexes) => hexes.split(" ").map((hex) => [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16)));
const VIRIDIS = parse("440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725");
const PURPLE_ORANGE = parse("2d004b 5d3790 988dbe cecde4 f6f6f7 fed7a2 ef9e3c be630a 7f3b08");
const palettes = new Map();
const NOTHING = [165, 165, 165];

/** The colour of a token; reused beyond eight. */
export function tokenColour(index, dark) {
	const colour = TOKENS.at(index % TOKENS.length);
	return (dark && ON_DARK[colour]) || colour;
}

export const tokenShape = (index) => NAMES.at(index % NAMES.length);

/** A colour of the sequence from dark to light, at 0 to 1; kept off the ends, which would vanish on the page. */
export function depthColour(fraction, dark) {
	const [r, g, b] = mix(VIRIDIS, dark ? 0.28 + 0.72 * fraction : 0.85 * fraction);
	return `rgb(${r} ${g} ${b})`;
}

/** Whether values lie either side of zero. */
export const diverges = (range) => range[0] < 0 && range[1] > 0;

/** The range of colours that is shown: as it is, or the same either side of zero. */
export function shownRange(range) {
	if (!diverges(range)) return range;
	const most = Math.max(-range[0], range[1]);
	return [-most, most];
}

/** A colour of a value in a range, as red, green, blue. */
export function valueColour(value, range) {
	if (!Number.isFinite(value)) return NOTHING;
	const [low, high] = shownRange(range);
	return mix(diverges(range) ? PURPLE_ORANGE : VIRIDIS, high > low ? (value - low) / (high - low) : 0);
}

/** What each byte of a frame looks like: 256 pixels of four bytes. */
export function palette(frameRange, range) {
	const key = `${frameRange} ${range}`;
	if (palettes.has(key)) return palettes.get(key);
	const pixels = new Uint8ClampedArray(256 * 4);
	for (let k = 0; k < 256; k += 1) pixels.set([...valueColour(byteValue(k, frameRange), range), 255], 4 * k);
	palettes.set(key, new Uint32Array(pixels.buffer));
	return palettes.get(key);
}

/** The value that a byte of a frame stands for. */
export function byteValue(byte, [low, high]) {
	return byte === 255 ? NaN : low + ((high - low) * byte) / 254;
}

function mix(colours, fraction) {
	const at = Math.min(1, Math.max(0, fraction)) * (colours.length - 1);
	const low = Math.min(colours.length - 2, Math.floor(at));
	return colours[low].map((value, k) => Math.round(value + (colours[low + 1][k] - value) * (at - low)));
}
