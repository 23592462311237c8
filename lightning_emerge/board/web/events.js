// What is said of something that may have emerged.

const tell = (...steps) => steps.filter(Number.isFinite).map(Math.round).join(" ").replace(/ (.*) (.*)/, " ($1 to $2)");

/** Onset and mastery with 95% intervals, or why there are none. Runs of older versions know no mastery. */
export function tellEvent({ name, step, low, high, whether, mastery, mastery_low: from, mastery_high: to }) {
	if (!Number.isFinite(step)) return whether === "never" ? `${name} never emerged` : `${name}: not resolved by these looks`;
	return `${name} emerged at step ${tell(step, low, high)}${Number.isFinite(mastery) ? `, mastery ${tell(mastery, from, to)}` : ""}`;
}
