// The words, and the images of stimuli, beside the pointer.

import { el } from "./dom.js";

const SIDE = 64;

export class Tip {
	constructor(app, dialog) {
		this.app = app;
		this.dialog = dialog;
		this.words = el("div");
		this.images = el("div", { class: "images" });
		this.root = el("div", { class: "tip", hidden: "" }, this.images, this.words);
	}

	show(target, { clientX: x, clientY: y }, run) {
		if (!target) return this.hide();
		this.app.store.point(target.what);
		this.words.textContent = target.label;
		this.images.replaceChildren(...this.thumbnails(target.what, run));
		// A window that is open lies above all else but what is in it.
		const home = this.dialog.open ? this.dialog : this.app.root;
		if (this.root.parentNode !== home) home.append(this.root);
		this.root.hidden = false;
		const { offsetWidth, offsetHeight } = this.root;
		this.root.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - offsetWidth - 8))}px`;
		this.root.style.top = `${y + 18 + offsetHeight > innerHeight ? y - offsetHeight - 10 : y + 18}px`;
	}

	hide() {
		this.app.store.point({});
		this.root.hidden = true;
	}

	attach(node, target) {
		node.addEventListener("pointerenter", (event) => this.show(target, event));
		node.addEventListener("pointerleave", () => this.hide());
		return node;
	}

	thumbnails({ stimulus, other }, run) {
		const sprite = run?.sprite();
		if (!sprite?.image || stimulus === undefined) return [];
		return [...new Set([stimulus, other ?? stimulus])].map((k) => {
			const canvas = el("canvas", { width: SIDE, height: SIDE });
			const { image, columns, width, height } = sprite;
			const context = canvas.getContext("2d");
			context.imageSmoothingEnabled = width > SIDE;
			context.drawImage(image, (k % columns) * width, Math.floor(k / columns) * height, width, height, 0, 0, SIDE, SIDE);
			return canvas;
		});
	}
}
