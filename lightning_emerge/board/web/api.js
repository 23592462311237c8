// The plugin's routes. Addresses are relative to this file, so that they hold behind any path prefix.

const BASE = new URL(".", import.meta.url);

async function ask(route, parameters) {
	const url = new URL(route, BASE);
	for (const [name, value] of Object.entries(parameters)) if (value !== undefined) url.searchParams.set(name, value);
	let answer;
	try {
		answer = await fetch(url);
	} catch {
		throw new Error("TensorBoard does not answer. Is it still running?");
	}
	if (answer.ok) return answer;
	const said = await answer.json().catch(() => ({}));
	throw new Error(said.error ?? `TensorBoard answered ${answer.status} to ${route}.`);
}

const numbers = (text) => (text ? text.split(",").map(Number) : []);

export async function getJson(route, parameters = {}) {
	return (await ask(route, parameters)).json();
}

/** Numbers with their shape. A frame has bytes: 0 to 254 on its range, 255 if not measured. */
export async function getArray(route, parameters) {
	const answer = await ask(route, parameters);
	const data = new (route === "frame" ? Uint8Array : Float32Array)(await answer.arrayBuffer());
	const header = (name) => numbers(answer.headers.get(name));
	return { data, shape: header("X-Shape"), steps: header("X-Steps"), range: header("X-Range"), damaged: header("X-Damaged"), bytes: data.byteLength };
}

/** All images of the bank in one, with the place of each. */
export async function getSprite(run) {
	const answer = await ask("sprite", { run });
	const [columns, width, height] = numbers(answer.headers.get("X-Sprite"));
	const image = await createImageBitmap(await answer.blob());
	return { image, columns, width, height, bytes: 4 * image.width * image.height };
}
