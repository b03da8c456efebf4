/** The inputs of adapters: one text or a pair. The server splits texts into words. */

/** Returns whether an adapter reads pairs: then it has two text columns and a label column. */
export const readsPairs = ({ columns }) => (columns ?? []).length > 2;

/**
 * Groups the adapters that can share a request because they have the same input.
 * @param {any[]} adapters
 * @returns {any[][]}
 */
export function byForm(adapters) {
  const forms = [adapters.filter((adapter) => !readsPairs(adapter)), adapters.filter(readsPairs)];
  return forms.filter((group) => group.length);
}

/**
 * Returns an adapter's input.
 * @param {any} adapter
 * @param {unknown[]} texts The first and the second text.
 * @returns {import("./api.js").Text | null} Null if a text is missing.
 */
export function textOf(adapter, texts) {
  const given = readsPairs(adapter) ? texts : texts.slice(0, 1);
  const isWords = Array.isArray(given[0]) && given[0].length > 0;
  if (!isWords && !given.every((text) => typeof text === "string" && text.trim())) return null;
  return readsPairs(adapter) ? given : given[0];
}
