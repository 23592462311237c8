// One way of drawing for the page, for PNG files (canvas) and for SVG files.

const SVG = "http://www.w3.org/2000/svg";
const FONT = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";

// Of each token in turn: corners, size, turn, and how far every other corner is drawn in.
export const SHAPES = {
	disk: [16, 1, 0, 1],
	square: [4, 1.2, 0.125, 1],
	triangle: [3, 1.25, 0.75, 1],
	diamond: [4, 1.25, 0, 1],
	wedge: [3, 1.25, 0.25, 1],
	plus: [8, 1.4, 0, 0.35],
	pentagon: [5, 1.2, 0.75, 1],
	star: [10, 1.4, 0.75, 0.45],
};

for (const [shape, [corners, size, turn, inner]] of Object.entries(SHAPES)) {
	SHAPES[shape] = Array.from({ length: corners }, (_, k) => {
		const angle = 2 * Math.PI * (turn + k / corners);
		const far = size * (k % 2 ? inner : 1);
		return [far * Math.cos(angle), far * Math.sin(angle)];
	});
}

const outline = (shape, x, y, r) => SHAPES[shape].map(([a, b]) => [x + r * a, y + r * b]);

/** Draws on a canvas. */
export class CanvasPen {
	constructor(context, ink) {
		this.context = context;
		this.ink = ink;
	}

	/** Moves the origin. */
	shift(x, y) {
		this.context.translate(x, y);
	}

	rect(x, y, width, height, style) {
		this.context.beginPath();
		this.context.rect(x, y, width, height);
		this.apply(style);
	}

	/** Fills and strokes the path that was made. */
	apply({ fill, stroke, weight = 1, alpha = 1, dash = [] }) {
		const { context } = this;
		context.globalAlpha = alpha;
		if (fill) {
			context.fillStyle = fill;
			context.fill();
		}
		if (stroke) {
			context.strokeStyle = stroke;
			context.lineWidth = weight;
			context.setLineDash(dash);
			context.stroke();
		}
		context.globalAlpha = 1;
	}

	/** Joins points [x, y]; a null lifts the pen. */
	line(points, style) {
		const { context } = this;
		context.beginPath();
		let down = false;
		for (const point of points) {
			if (point && down) context.lineTo(point[0], point[1]);
			else if (point) context.moveTo(point[0], point[1]);
			down = Boolean(point);
		}
		this.apply(style);
	}

	/** Draws the same shape at many places [x, y]. */
	marks(places, r, shape, style) {
		const { context } = this;
		context.beginPath();
		for (const [x, y] of places) {
			if (shape === "disk") {
				context.moveTo(x + r, y);
				context.arc(x, y, r, 0, 2 * Math.PI);
			} else {
				outline(shape, x, y, r).forEach(([a, b], k) => (k ? context.lineTo(a, b) : context.moveTo(a, b)));
				context.closePath();
			}
		}
		this.apply(style);
	}

	/** Puts a small canvas; its pixels stay square if it is made larger. */
	image(picture, x, y, width, height) {
		const { context } = this;
		context.imageSmoothingEnabled = picture.width > width;
		context.drawImage(picture, x, y, width, height);
	}

	text(x, y, words, { fill = this.ink, size = 11.5, align = "left", bold = false } = {}) {
		const { context } = this;
		const font = `${bold ? "600 " : ""}${size}px ${FONT}`;
		if (font !== this.font) context.font = this.font = font;
		context.textAlign = align;
		context.fillStyle = fill;
		context.fillText(words, x, y);
	}
}

/** Draws the same into an SVG element. */
export class SvgPen {
	constructor(width, height, ink) {
		this.ink = ink;
		this.root = document.createElementNS(SVG, "svg");
		this.group = put(this.root, { xmlns: SVG, viewBox: `0 0 ${width} ${height}`, width, height, "font-family": FONT });
	}

	shift(x, y) {
		this.group = this.root;
		this.group = this.add("g", { transform: `translate(${x} ${y})` });
	}

	add(tag, attributes) {
		return this.group.appendChild(put(document.createElementNS(SVG, tag), attributes));
	}

	style({ fill = "none", stroke, weight = 1, alpha = 1, dash = [] }) {
		return { fill, stroke, "stroke-width": stroke && weight, opacity: alpha < 1 && alpha, "stroke-dasharray": dash.join(" ") };
	}

	rect(x, y, width, height, style) {
		this.add("rect", { x, y, width, height, ...this.style(style) });
	}

	line(points, style) {
		let down = false;
		const path = points.map((point) => {
			const command = point ? `${down ? "L" : "M"}${short(point[0])} ${short(point[1])}` : "";
			down = Boolean(point);
			return command;
		});
		this.add("path", { d: path.join(""), ...this.style(style) });
	}

	marks(places, r, shape, style) {
		const paths = places.map(([x, y]) => `M${outline(shape, x, y, r).map((point) => point.map(short).join(" ")).join("L")}Z`);
		this.add("path", { d: paths.join(""), ...this.style(style) });
	}

	image(picture, x, y, width, height) {
		const style = picture.width > width ? "" : "image-rendering: pixelated";
		this.add("image", { href: picture.toDataURL(), x, y, width, height, preserveAspectRatio: "none", style });
	}

	text(x, y, words, { fill = this.ink, size = 11.5, align = "left", bold = false } = {}) {
		const anchor = { left: "start", center: "middle", right: "end" }[align];
		this.add("text", { x, y, fill, "font-size": size, "text-anchor": anchor, "font-weight": bold && 600 }).textContent = words;
	}
}

function put(node, attributes) {
	for (const [name, value] of Object.entries(attributes)) if (value || value === 0) node.setAttribute(name, value);
	return node;
}

const short = (value) => Math.round(value * 100) / 100;
