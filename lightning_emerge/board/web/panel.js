// A view on the page: its title, choices and sentence, and a drawing for each run that is shown.

import { choose, el, fill, save, wrap } from "./dom.js";
import { CanvasPen, SvgPen } from "./pen.js";
import { Scene } from "./scene.js";

const HEAD = 18;

export class Panel {
	/**
	 * A view has {id, title, missing, about, height, draw}. One that shows one of a run's measures gives their `names`,
	 * the `key` under which the state has the chosen one, and `better` ones; another may have `layers` and `choices`.
	 */
	constructor(view, app) {
		this.view = view;
		this.app = app;
		this.cells = new Map();
		this.seen = true;
		this.title = el("h2", { id: `title-${view.id}` }, view.title);
		this.choices = el("div", { class: "choices" });
		this.pin = el("button", { "aria-label": `Keep ${view.title} at the top`, onclick: () => app.pin(view.id) }, "Pin");
		const buttons = ["PNG", "SVG"].map((kind) =>
			el("button", { "aria-label": `Save ${view.title} as ${kind}`, onclick: () => this.save(kind) }, kind),
		);
		this.about = el("p", { class: "about", id: `about-${view.id}` });
		this.body = el("div", { class: "cells" });
		const head = el("header", {}, this.title, this.choices, el("div", { class: "tools" }, this.pin, ...buttons));
		this.root = el("section", { class: "panel", "aria-labelledby": this.title.id, "data-view": view.id }, head, this.about, this.body);
		new ResizeObserver(() => this.resize()).observe(this.body);
		const sight = ([entry]) => {
			this.seen = entry.isIntersecting;
			app.redraw();
		};
		new IntersectionObserver(sight, { rootMargin: "100px" }).observe(this.root);
	}

	resize() {
		for (const cell of this.cells.values()) cell.width = 0;
		this.app.redraw();
	}

	/** What is shown of a run: its measure, the same in all runs, and its layer, chosen here or elsewhere if it can be. */
	scene(run) {
		const { app, name } = this;
		const scene = new Scene(app, run, this.cells.get(run.name)?.kept ?? new Map());
		const full = this.layers(run, true);
		const layer = choose(this.layers(run), scene.state.layer, ...[app.layer, full.at(-2), full[0]].filter((one) => full.includes(one)));
		return Object.assign(scene, { name, measure: run.measure(name), layer: layer ?? scene.layer });
	}

	/** The layers of which a run has something to show here; with `full`, numbers at the newest look. */
	layers(run, full) {
		const { name, view } = this;
		if (this.missing(run)) return [];
		return name ? run.layers([name], full) : (view.layers?.(run, full) ?? []);
	}

	/** The measure that is shown: of the first run that has any that this view can show. */
	get name() {
		const { app, view } = this;
		const run = view.names && app.shown.find((one) => view.names(one).length);
		return run && run.pick(view.names(run), app.store.value[view.key], view.better);
	}

	/** What is said in place of a run's drawing, if there is none. */
	missing(run) {
		const { app, name, view } = this;
		if (!view.names) return view.missing(run, app.store.value);
		const names = view.names(run);
		return names.includes(name) ? "" : `This run has recorded no ${names.length ? name : view.missing}.`;
	}

	/** The runs of which there is something to draw. */
	get able() {
		return this.app.shown.filter((run) => !this.missing(run));
	}

	/** Draws all runs. Returns whether everything that should be there was. */
	draw() {
		const { shown } = this.app;
		this.describe();
		for (const [name, { root, run }] of this.cells) {
			if (shown.includes(run)) continue;
			root.remove();
			this.cells.delete(name);
			this.resize();
		}
		this.body.classList.toggle("two", shown.length > 1);
		shown.forEach((run) => this.cell(run));
		return shown.map((run) => this.drawCell(run)).every(Boolean);
	}

	describe() {
		const { app, view } = this;
		const [able] = this.able;
		const scene = able && this.scene(able);
		this.about.textContent = able ? view.about(scene) : "";
		this.pin.setAttribute("aria-pressed", app.pins().includes(view.id));
		const choices = (able && view.choices?.(scene)) ?? [];
		if (able && view.names) choices.push([view.key, view.label ?? "Measure", scene.name, view.names(able)]);
		const layers = able && !view.everyLayer ? this.layers(able) : [];
		if (layers.length) choices.push(["layer", "Layer", scene.layer, layers]);
		while (this.choices.children.length > choices.length) this.choices.lastChild.remove();
		choices.forEach((choice, k) => this.choose(choice, k));
	}

	choose([key, label, value, options], k) {
		if (!this.choices.children[k]) {
			const select = el("select", { onchange: () => this.app.store.set({ [select.dataset.key]: select.value }) });
			this.choices.append(el("label", {}, el("span"), select));
		}
		const [words, select] = this.choices.children[k].children;
		words.textContent = label;
		select.dataset.key = key;
		fill(select, options, value);
	}

	cell(run) {
		if (this.cells.has(run.name)) return this.cells.get(run.name);
		const [head, note] = [el("p", { class: "run" }, run.name), el("p", { class: "note" })];
		const cell = { run, head, note, targets: [], cursor: -1, kept: new Map() };
		cell.canvas = el("canvas", {
			tabindex: 0,
			role: "img",
			"aria-describedby": this.about.id,
			onpointermove: (event) => this.point(cell, event),
			onpointerleave: () => this.leave(cell),
			onclick: (event) => this.find(cell, event)?.open?.(),
			onkeydown: (event) => this.key(cell, event),
			onblur: () => this.leave(cell),
		});
		cell.root = el("div", { class: "cell" }, head, note, cell.canvas);
		this.cells.set(run.name, cell);
		this.body.insertBefore(cell.root, this.body.children[this.app.shown.indexOf(run)] ?? null);
		this.resize();
		return cell;
	}

	drawCell(run) {
		const { app, view } = this;
		const cell = this.cells.get(run.name);
		const missing = this.missing(run);
		cell.canvas.hidden = Boolean(missing);
		cell.head.hidden = app.wanted.length < 2;
		cell.note.textContent = missing;
		if (missing) return true;
		const width = cell.width || Math.max(260, cell.root.clientWidth);
		const scene = this.scene(run);
		const pen = this.prepare(cell, width, Math.ceil(view.height(scene, width)));
		view.draw(pen, scene, width);
		cell.targets = scene.targets;
		const target = cell.targets[cell.cursor];
		if (target) scene.light(pen, [target.x, target.y, target.width, target.height]);
		cell.note.textContent = scene.note;
		cell.canvas.setAttribute("aria-label", `${this.title.textContent}, ${run.name}, step ${scene.step}`);
		return scene.fresh;
	}

	prepare(cell, width, height) {
		const { canvas } = cell;
		const dense = devicePixelRatio;
		if (cell.width !== width || cell.height !== height || cell.dense !== dense) {
			Object.assign(cell, { width, height, dense });
			Object.assign(canvas, { width: width * dense, height: height * dense });
			Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
		}
		const context = canvas.getContext("2d");
		context.setTransform(dense, 0, 0, dense, 0, 0);
		context.clearRect(0, 0, width, height);
		return new CanvasPen(context, this.app.colours.ink);
	}

	find(cell, { offsetX: x, offsetY: y }) {
		const near = cell.targets.filter((one) => x >= one.x && y >= one.y && x <= one.x + one.width && y <= one.y + one.height);
		return near.toReversed().reduce((found, one) => found || (one.at ? one.at(x, y) : one), null);
	}

	point(cell, event) {
		const target = this.find(cell, event);
		cell.canvas.style.cursor = target?.open ? "pointer" : "default";
		this.app.tip.show(target, event, cell.run);
	}

	leave(cell) {
		cell.cursor = -1;
		this.app.tip.hide();
	}

	/** Up and down go from one thing to the next, Enter chooses it. */
	key(cell, event) {
		const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
		const many = cell.targets.length;
		if (event.key === "Enter") cell.targets[cell.cursor]?.open?.();
		if (!by || !many) return;
		cell.cursor = (Math.max(cell.cursor, by < 0 ? 0 : -1) + by + many) % many;
		this.app.store.point(cell.targets[cell.cursor].what);
		this.app.spoken.textContent = cell.targets[cell.cursor].label;
		this.app.redraw();
		event.preventDefault();
	}

	/** Saves what is drawn, with its title and sentence. */
	save(kind) {
		const { app, view, able } = this;
		if (!able.length) return;
		const cells = able.map((run) => this.cells.get(run.name));
		const width = cells.reduce((sum, cell) => sum + cell.width + HEAD, HEAD);
		const lines = wrap(this.about.textContent, Math.floor(width / 6.2));
		const top = 3.2 * HEAD + lines.length * 15;
		const height = top + Math.max(...cells.map((cell) => cell.height)) + HEAD;
		const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
		const context = canvas.getContext("2d");
		const { ink, soft, page } = app.colours;
		const pen = kind === "SVG" ? new SvgPen(width, height, ink) : new CanvasPen(context, ink);
		context.scale(2, 2);
		pen.rect(0, 0, width, height, { fill: page });
		pen.text(HEAD, 1.5 * HEAD, this.title.textContent, { size: 16, bold: true });
		lines.forEach((line, k) => pen.text(HEAD, 2.4 * HEAD + 15 * k, line, { fill: soft }));
		let x = HEAD;
		able.forEach((run, k) => {
			const scene = this.scene(run);
			context.setTransform(2, 0, 0, 2, 0, 0);
			pen.shift(x, top);
			view.draw(pen, scene, cells[k].width);
			pen.text(0, -0.5 * HEAD, `${run.name}, step ${scene.step}`);
			x += cells[k].width + HEAD;
		});
		const name = `emerge-${view.id}-step-${app.step}.${kind.toLowerCase()}`;
		if (kind === "PNG") canvas.toBlob((blob) => save(name, blob));
		else save(name, new Blob([new XMLSerializer().serializeToString(pen.root)], { type: "image/svg+xml" }));
	}
}
