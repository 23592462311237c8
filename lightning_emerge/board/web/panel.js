// A view on the page: its title, choices and sentence, and a drawing for each run that is shown.

import { el, fill, save, wrap } from "./dom.js";
import { CanvasPen, SvgPen } from "./pen.js";
import { Scene } from "./scene.js";

const HEAD = 18;

export class Panel {
  /**
   * @param view what is drawn: {id, title, missing, choices, about, height, draw}.
   * @param app the store, the runs that are shown, the colours, the tooltip.
   */
  constructor(view, app) {
    this.view = view;
    this.app = app;
    this.cells = new Map();
    this.seen = true;
    this.title = el("h2", { id: `title-${view.id}` }, view.title);
    this.choices = el("div", { class: "choices" });
    this.pin = el("button", { type: "button", class: "pin", onclick: () => app.pin(view.id) }, "Pin");
    const buttons = ["PNG", "SVG"].map((kind) =>
      el("button", { type: "button", "aria-label": `Save ${view.title} as ${kind}`, onclick: () => this.save(kind) }, kind),
    );
    this.about = el("p", { class: "about", id: `about-${view.id}` });
    this.body = el("div", { class: "cells" });
    const head = el("header", {}, this.title, this.choices, el("div", { class: "tools" }, this.pin, ...buttons));
    this.root = el("section", { class: "panel", "aria-labelledby": this.title.id, "data-view": view.id }, head, this.about, this.body);
    new ResizeObserver(() => this.resize()).observe(this.body);
    new IntersectionObserver(([entry]) => this.sight(entry.isIntersecting), { rootMargin: "100px" }).observe(this.root);
  }

  resize() {
    this.width = 0;
    this.app.redraw();
  }

  sight(seen) {
    this.seen = seen;
    if (seen) this.app.redraw();
  }

  scene(run) {
    return new Scene(this.app, run, this.cells.get(run.name)?.kept ?? new Map());
  }

  /** Draws all runs. Returns whether everything that should be there was. */
  draw() {
    const { app, view } = this;
    this.describe();
    const names = app.shown.map((run) => run.name);
    for (const [name, cell] of this.cells) if (!names.includes(name)) this.drop(name, cell);
    this.body.classList.toggle("two", names.length > 1);
    return app.shown.map((run) => this.drawCell(run, view)).every(Boolean);
  }

  describe() {
    const { app, view } = this;
    const able = app.shown.find((one) => !view.missing(one, app.store.value));
    this.about.textContent = able ? view.about(this.scene(able)) : "";
    this.pin.setAttribute("aria-pressed", app.isPinned(view.id));
    this.pin.setAttribute("aria-label", `${view.title}: keep at the top`);
    const choices = able ? view.choices(this.scene(able)) : [];
    while (this.choices.children.length > choices.length) this.choices.lastChild.remove();
    choices.forEach((choice, k) => this.choose(choice, k));
  }

  choose({ key, label, options, value }, k) {
    if (!this.choices.children[k]) {
      const select = el("select", { onchange: () => this.app.store.set({ [select.dataset.key]: select.value }) });
      this.choices.append(el("label", {}, el("span"), select));
    }
    const [words, select] = this.choices.children[k].children;
    words.textContent = label;
    select.dataset.key = key;
    fill(select, options, value);
  }

  drop(name, cell) {
    cell.root.remove();
    this.cells.delete(name);
  }

  cell(run) {
    if (this.cells.has(run.name)) return this.cells.get(run.name);
    const canvas = el("canvas", { tabindex: 0, role: "img", "aria-describedby": this.about.id });
    const head = el("p", { class: "run" });
    const note = el("p", { class: "note" });
    const cell = { run: run.name, canvas, head, note, root: el("div", { class: "cell" }, head, note, canvas), targets: [], cursor: -1, kept: new Map() };
    canvas.addEventListener("pointermove", (event) => this.point(cell, event));
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("click", (event) => this.find(cell, event)?.open?.());
    canvas.addEventListener("keydown", (event) => this.key(cell, event));
    canvas.addEventListener("blur", () => {
      cell.cursor = -1;
      this.leave();
    });
    this.cells.set(run.name, cell);
    const place = this.app.shown.indexOf(run);
    this.body.insertBefore(cell.root, this.body.children[place] ?? null);
    return cell;
  }

  drawCell(run, view) {
    const cell = this.cell(run);
    const missing = view.missing(run, this.app.store.value);
    cell.canvas.hidden = Boolean(missing);
    cell.head.hidden = this.app.shown.length < 2;
    cell.head.textContent = run.name;
    if (missing) {
      cell.note.textContent = missing;
      return true;
    }
    const width = Math.max(260, Math.floor(this.width ? cell.width : cell.root.clientWidth));
    const scene = this.scene(run);
    const height = Math.ceil(view.height(scene, width));
    const pen = this.prepare(cell, width, height);
    view.draw(pen, scene, width, height);
    cell.targets = scene.targets;
    this.ring(pen, cell);
    cell.note.textContent = scene.note;
    const words = `${view.title}${this.app.shown.length > 1 ? `, ${run.name}` : ""}, step ${scene.step}`;
    if (cell.words !== words) cell.canvas.setAttribute("aria-label", (cell.words = words));
    return scene.fresh;
  }

  prepare(cell, width, height) {
    const { canvas } = cell;
    const dense = window.devicePixelRatio || 1;
    if (cell.width !== width || cell.height !== height || cell.dense !== dense) {
      Object.assign(cell, { width, height, dense });
      Object.assign(canvas, { width: width * dense, height: height * dense });
      Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    }
    this.width = width;
    const context = canvas.getContext("2d");
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.clearRect(0, 0, width, height);
    return new CanvasPen(context, this.app.colours.ink);
  }

  ring(pen, cell) {
    const target = cell.targets[cell.cursor];
    if (!target) return;
    const { x, y, width, height } = target;
    pen.rect(x - 2, y - 2, width + 4, height + 4, { stroke: this.app.colours.ink, weight: 2 });
  }

  find(cell, event) {
    const x = event.offsetX;
    const y = event.offsetY;
    for (let k = cell.targets.length - 1; k >= 0; k -= 1) {
      const target = cell.targets[k];
      if (x < target.x || y < target.y || x > target.x + target.width || y > target.y + target.height) continue;
      const inside = target.at ? target.at(x, y) : target;
      if (inside) return inside;
    }
    return undefined;
  }

  point(cell, event) {
    const target = this.find(cell, event);
    cell.canvas.style.cursor = target?.open ? "pointer" : "default";
    this.app.store.point(target?.what ?? {});
    this.app.tip.show(target, event.clientX, event.clientY, cell);
  }

  leave() {
    this.app.store.point({});
    this.app.tip.hide();
  }

  key(cell, event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && cell.targets.length) {
      cell.cursor = (Math.max(cell.cursor, by < 0 ? 0 : -1) + by + cell.targets.length) % cell.targets.length;
      const target = cell.targets[cell.cursor];
      this.app.store.point(target.what ?? {});
      this.app.say(target.label);
      this.app.redraw();
      event.preventDefault();
    } else if (event.key === "Enter") {
      cell.targets[cell.cursor]?.open?.();
    } else if (event.key === "Escape") {
      this.leave();
    }
  }

  /** Saves what is drawn, with its title and sentence. */
  async save(kind) {
    const { app, view } = this;
    const able = app.shown.filter((run) => !view.missing(run, app.store.value));
    if (!able.length) return;
    const cells = able.map((run) => this.cells.get(run.name));
    const width = cells.reduce((sum, cell) => sum + cell.width + HEAD, HEAD);
    const lines = wrap(this.about.textContent, Math.floor(width / 6.2));
    const top = 3.2 * HEAD + lines.length * 15;
    const height = top + Math.max(...cells.map((cell) => cell.height)) + HEAD;
    const compose = (pen) => this.compose(pen, able, lines, { width, height, top });
    const name = `emerge-${view.id}-step-${app.step}.${kind.toLowerCase()}`;
    if (kind === "SVG") {
      const pen = new SvgPen(width, height, app.colours.ink);
      compose(pen);
      save(name, new Blob([new XMLSerializer().serializeToString(pen.root)], { type: "image/svg+xml" }));
      return;
    }
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    compose(new CanvasPen(context, app.colours.ink));
    canvas.toBlob((blob) => save(name, blob));
  }

  compose(pen, runs, lines, { width, height, top }) {
    const { colours } = this.app;
    pen.rect(0, 0, width, height, { fill: colours.page });
    pen.text(HEAD, 1.5 * HEAD, this.view.title, { size: 16, bold: true });
    lines.forEach((line, k) => pen.text(HEAD, 2.4 * HEAD + 15 * k, line, { fill: colours.soft }));
    let x = HEAD;
    for (const run of runs) {
      const cell = this.cells.get(run.name);
      const scene = this.scene(run);
      const moved = offset(pen, x, top);
      this.view.draw(moved, scene, cell.width, cell.height);
      pen.text(x, top - 0.5 * HEAD, `${run.name}, step ${scene.step}`);
      x += cell.width + HEAD;
    }
  }
}

/** The same pen with its origin elsewhere. */
function offset(pen, dx, dy) {
  return {
    rect: (x, y, ...rest) => pen.rect(x + dx, y + dy, ...rest),
    line: (points, style) => pen.line(points.map((point) => point && [point[0] + dx, point[1] + dy]), style),
    marks: (places, ...rest) => pen.marks(places.map(([x, y]) => [x + dx, y + dy]), ...rest),
    image: (picture, x, y, ...rest) => pen.image(picture, x + dx, y + dy, ...rest),
    text: (x, y, ...rest) => pen.text(x + dx, y + dy, ...rest),
  };
}
