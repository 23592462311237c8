// One way of drawing for the page, for PNG files (canvas) and for SVG files.

const SVG = "http://www.w3.org/2000/svg";
const FONT = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";

const OUTLINES = {
  disk: (x, y, r) => polygon(x, y, r, 16, 0),
  square: (x, y, r) => polygon(x, y, 1.2 * r, 4, Math.PI / 4),
  triangle: (x, y, r) => polygon(x, y, 1.25 * r, 3, -Math.PI / 2),
  diamond: (x, y, r) => polygon(x, y, 1.25 * r, 4, 0),
  wedge: (x, y, r) => polygon(x, y, 1.25 * r, 3, Math.PI / 2),
  plus: (x, y, r) => cross(x, y, r, 0),
  ring: (x, y, r) => polygon(x, y, 1.1 * r, 5, -Math.PI / 2),
  cross: (x, y, r) => cross(x, y, r, Math.PI / 4),
};

function polygon(x, y, r, count, turn) {
  return Array.from({ length: count }, (_, k) => {
    const angle = turn + (2 * Math.PI * k) / count;
    return [x + r * Math.cos(angle), y + r * Math.sin(angle)];
  });
}

function cross(x, y, r, turn) {
  const thin = 0.4 * r;
  const long = 1.2 * r;
  const corners = [[thin, thin], [thin, long], [-thin, long], [-thin, thin], [-long, thin], [-long, -thin]];
  const all = [...corners, [-thin, -thin], [-thin, -long], [thin, -long], [thin, -thin], [long, -thin], [long, thin]];
  return all.map(([a, b]) => [x + a * Math.cos(turn) - b * Math.sin(turn), y + a * Math.sin(turn) + b * Math.cos(turn)]);
}

/** Draws on a canvas. */
export class CanvasPen {
  constructor(context, ink) {
    this.context = context;
    this.ink = ink;
  }

  rect(x, y, width, height, { fill, stroke, weight = 1, alpha = 1 } = {}) {
    const { context } = this;
    context.globalAlpha = alpha;
    if (fill) {
      context.fillStyle = fill;
      context.fillRect(x, y, width, height);
    }
    if (stroke) {
      context.strokeStyle = stroke;
      context.lineWidth = weight;
      context.strokeRect(x, y, width, height);
    }
    context.globalAlpha = 1;
  }

  /** Joins points [x, y]; a null lifts the pen. */
  line(points, { stroke, weight = 1, alpha = 1, dash = [] }) {
    const { context } = this;
    context.beginPath();
    let down = false;
    for (const point of points) {
      if (point && down) context.lineTo(point[0], point[1]);
      else if (point) context.moveTo(point[0], point[1]);
      down = Boolean(point);
    }
    context.globalAlpha = alpha;
    context.strokeStyle = stroke;
    context.lineWidth = weight;
    context.lineJoin = "round";
    context.setLineDash(dash);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** Fills the same shape at many places [x, y]. */
  marks(places, r, shape, { fill, stroke, weight = 1, alpha = 1 }) {
    const { context } = this;
    context.beginPath();
    for (const [x, y] of places) {
      if (shape === "disk") {
        context.moveTo(x + r, y);
        context.arc(x, y, r, 0, 2 * Math.PI);
      } else {
        OUTLINES[shape](x, y, r).forEach(([a, b], k) => (k ? context.lineTo(a, b) : context.moveTo(a, b)));
        context.closePath();
      }
    }
    context.globalAlpha = alpha;
    if (fill) {
      context.fillStyle = fill;
      context.fill();
    }
    if (stroke) {
      context.strokeStyle = stroke;
      context.lineWidth = weight;
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  /** Puts a small canvas; its pixels stay square if it is made larger. */
  image(picture, x, y, width, height) {
    const { context } = this;
    context.imageSmoothingEnabled = picture.width > width;
    context.drawImage(picture, x, y, width, height);
  }

  text(x, y, words, { fill = this.ink, size = 11.5, align = "left", bold = false } = {}) {
    const { context } = this;
    context.font = `${bold ? "600 " : ""}${size}px ${FONT}`;
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
    this.put(this.root, { xmlns: SVG, viewBox: `0 0 ${width} ${height}`, width, height, "font-family": FONT });
  }

  put(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== false && value !== "") node.setAttribute(name, value);
    }
    return node;
  }

  add(tag, attributes) {
    return this.root.appendChild(this.put(document.createElementNS(SVG, tag), attributes));
  }

  style({ fill, stroke, weight = 1, alpha = 1, dash = [] }) {
    return {
      fill: fill ?? "none",
      stroke,
      "stroke-width": stroke && weight,
      opacity: alpha === 1 ? undefined : alpha,
      "stroke-dasharray": dash.join(" "),
    };
  }

  rect(x, y, width, height, style = {}) {
    this.add("rect", { x, y, width, height, ...this.style(style) });
  }

  line(points, style) {
    let down = false;
    const path = points.map((point) => {
      const command = point ? `${down ? "L" : "M"}${short(point[0])} ${short(point[1])}` : "";
      down = Boolean(point);
      return command;
    });
    this.add("path", { d: path.join(""), ...this.style(style), "stroke-linejoin": "round" });
  }

  marks(places, r, shape, style) {
    const outline = (x, y) => OUTLINES[shape](x, y, r).map((point) => point.map(short).join(" "));
    this.add("path", { d: places.map(([x, y]) => `M${outline(x, y).join("L")}Z`).join(""), ...this.style(style) });
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

const short = (value) => Math.round(value * 100) / 100;
