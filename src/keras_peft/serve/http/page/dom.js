/** Creates and changes elements. Text is always inserted as text, never as markup. */

/**
 * @param {string} id
 * @returns {any} The element with that id.
 */
export const byId = (id) => document.getElementById(id);

/**
 * Creates an element.
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] Properties of the element, such as `className`.
 * @param {...(Node | string | null)} children Null is left out.
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Shows an element or hides it. */
export function show(element, isShown) {
  element.hidden = !isShown;
}

/**
 * Shows a message or a problem, which a screen reader reads out.
 * @param {HTMLElement} element
 * @param {string} message
 * @param {boolean} [isProblem]
 * @param {string} [unseen] Text to read out after the message but not to show, because it is shown elsewhere.
 */
export function tell(element, message, isProblem = false, unseen = "") {
  // An unchanged message is not read out again.
  if (element.textContent !== message + unseen) {
    element.replaceChildren(message, ...(unseen ? [make("span", { className: "hidden" }, unseen)] : []));
  }
  element.classList.toggle("problem", isProblem);
}

/** @returns {string} Such as "3 rows", "1 row". */
export const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** @returns {string} Such as "0.912". */
export const fixed = (number) => number.toFixed(3);
