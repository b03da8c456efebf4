/** What adapters read: one text, or two together. Words are parted by the server. */

/** Tells whether an adapter reads two texts: its columns are those and the labels'. */
export const readsPairs = ({ columns }) => (columns ?? []).length > 2;

/**
 * Groups adapters that can be asked together, since they read the same.
 * @param {any[]} adapters
 * @returns {any[][]}
 */
export function byForm(adapters) {
  const forms = [adapters.filter((adapter) => !readsPairs(adapter)), adapters.filter(readsPairs)];
  return forms.filter((group) => group.length);
}

/**
 * Puts together what an adapter reads.
 * @param {any} adapter
 * @param {unknown[]} texts The first and the second text.
 * @returns {import("./api.js").Text | null} Null where there is none.
 */
export function textOf(adapter, texts) {
  const given = readsPairs(adapter) ? texts : texts.slice(0, 1);
  const isWords = Array.isArray(given[0]) && given[0].length > 0;
  if (!isWords && !given.every((text) => typeof text === "string" && text.trim())) return null;
  return readsPairs(adapter) ? given : given[0];
}
