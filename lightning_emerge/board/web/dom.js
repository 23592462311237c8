// Small help with the page. Words only ever become text.

/** Makes an element; strings among the children become text. */
export function el(tag, attributes = {}, ...children) {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
		else node.setAttribute(name, value);
	}
	node.append(...children);
	return node;
}

/** Gives names, or pairs of value and name, to a select; touches it only if something has changed. */
export function fill(select, options, value) {
	const now = JSON.stringify(options);
	if (select.dataset.options !== now) {
		select.dataset.options = now;
		select.replaceChildren(...options.map((one) => el("option", { value: [one].flat()[0] }, [one].flat().at(-1))));
	}
	select.value = value;
}

/** A number in few digits. */
export function digits(value) {
	if (!Number.isFinite(value)) return "none";
	if (value === 0) return "0";
	const size = Math.abs(value);
	if (size >= 1e5 || size < 1e-3) return value.toExponential(1);
	return String(Number(value.toPrecision(3)));
}

/** Offers a file to be saved. */
export function save(name, blob) {
	const url = URL.createObjectURL(blob);
	el("a", { href: url, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Where one of many boxes in rows begins. */
export const corner = (k, columns, width, height) => [(k % columns) * width, Math.floor(k / columns) * height];

/** Breaks words into lines of about so many letters. */
export function wrap(words, most) {
	return words.match(new RegExp(`\\S{${most},}|\\S.{0,${most - 1}}(?=\\s|$)`, "g")) ?? [];
}

/** What was wished for if it is there, else one that is better than others, else the first. */
export const choose = (all, wish, ...better) => [wish, ...better].find((one) => all.includes(one)) ?? all[0];

export const clip = (words, most) => (words.length > most ? `${words.slice(0, most - 1)}…` : words);
