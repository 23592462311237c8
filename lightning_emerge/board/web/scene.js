// What a view needs to draw one run, and what it leaves: things to point at, and whether all was there.

import { tokenColour, tokenShape } from "./colour.js";

export class Scene {
	/** Small canvases and the like are `kept` from one drawing to the next. */
	constructor(app, run, kept) {
		const { value: state, hover } = app.store;
		const { shown: runs, step, last, colours } = app;
		const layer = state.layer || app.layer;
		Object.assign(this, { app, run, kept, state, hover, runs, step, layer, last, ...colours, fresh: true, note: "", targets: [] });
		this.only = hover.token ?? (run.tokens.includes(state.token) ? state.token : null);
	}

	/** Takes what a run gave: the value, or undefined. */
	have({ value, fresh, error }) {
		this.fresh &&= fresh;
		if (error) this.note = error;
		if (value?.damaged?.length) this.note = `Damaged at step ${value.damaged}.`;
		return value;
	}

	/** There is something to point at, and to choose if `open` is given; later ones lie above. */
	hit(box, label, what, open, at) {
		const [x, y, width, height] = box;
		this.targets.push({ x, y, width, height, label, what, open, at });
	}

	/** The same for something round. */
	spot(x, y, r, ...rest) {
		this.hit([x - r, y - r, 2 * r, 2 * r], ...rest);
	}

	sayNothing(pen, x, y) {
		pen.text(x, y, "could not be measured", { fill: this.soft });
	}

	/** Marks a box that is pointed at. */
	light(pen, [x, y, width, height]) {
		pen.rect(x - 1.5, y - 1.5, width + 3, height + 3, { stroke: this.ink, weight: 2 });
	}

	openLayer(layer) {
		return () => this.app.store.set({ layer });
	}

	openFilter(filter) {
		return () => this.app.store.set({ filter });
	}

	colour(token) {
		return tokenColour(token, this.dark);
	}

	mark(pen, x, y, r, token, style = {}) {
		pen.marks([[x, y]], r, tokenShape(token), { fill: this.colour(token), ...style });
	}

	/** Frames a stimulus in its token's colour. */
	frame(pen, x, y, side, stimulus) {
		const token = this.run.info.token_of[stimulus];
		pen.rect(x + 1, y + 1, side - 2, side - 2, { stroke: this.colour(token), weight: 2.5 });
		this.mark(pen, x + 7, y + 7, 3.5, token, { stroke: this.page, weight: 0.8 });
	}

	/** A small canvas, painted anew only if its mark has changed. */
	canvas(spot, mark, width, height, paint) {
		let one = this.kept.get(spot);
		if (one?.mark === mark) return one.canvas;
		if (one?.canvas.width !== width || one.canvas.height !== height) {
			const canvas = Object.assign(document.createElement("canvas"), { width, height });
			const context = canvas.getContext("2d");
			one = { canvas, context, image: context.createImageData(width, height) };
			this.kept.set(spot, one);
		}
		paint(one.image.data);
		one.context.putImageData(one.image, 0, 0);
		one.mark = mark;
		return one.canvas;
	}
}
