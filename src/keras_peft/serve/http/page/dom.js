/** Making elements. Text only ever comes in as text, never as markup. */

/**
 * @param {string} id
 * @returns {any} The element of that id.
 */
export const byId = (id) => document.getElementById(id);

/**
 * Makes an element.
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
 * Writes a line that is read out, as a message or as a problem.
 * @param {HTMLElement} element
 * @param {string} message
 * @param {boolean} [isProblem]
 * @param {string} [unseen] What is read out after it and not shown, since it stands elsewhere.
 */
export function tell(element, message, isProblem = false, unseen = "") {
  // The same line is not read out again.
  if (element.textContent !== message + unseen) {
    element.replaceChildren(message, ...(unseen ? [make("span", { className: "hidden" }, unseen)] : []));
  }
  element.classList.toggle("problem", isProblem);
}

/** @returns {string} Such as "3 rows", "1 row". */
export const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** @returns {string} Such as "0.912". */
export const fixed = (number) => number.toFixed(3);
