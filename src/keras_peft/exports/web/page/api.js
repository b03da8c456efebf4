/**
 * The predictions of the classifier in this folder, with the functions of the server page's module of this name.
 *
 * @typedef {{label: string | null, probabilities: [string, number][]}
 *   | {labels: string[], probabilities: [string, number][]}
 *   | {value: number}
 *   | {tokens: string[], tags: string[], entities: {label: string, start: number, end: number}[]}} Prediction
 *
 * @typedef {string | string[]} Text A text, a pair of them, or words.
 */

/** An error; its status is 400 if a text cannot be read. */
export class Refusal extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
    this.retryAfter = 0;
  }
}

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
/** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
const waiting = new Map();
/** @type {Map<string, number>} The bytes of each file that were loaded. */
const loaded = new Map();
/** @type {(bytes: number) => void} */
let advance = () => {};
let next = 0;

/** @type {Promise<void>} Resolved when the model is ready. */
const opened = new Promise((resolve, reject) => {
  worker.addEventListener("message", ({ data }) => {
    if (data.isOpen) resolve(undefined);
    if (data.failed) reject(new Refusal(data.failed, 0));
  });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    reject(new Refusal(`This browser cannot run the model; update it${event.message ? ` (${event.message})` : ""}.`, 0));
  });
});
worker.addEventListener("message", ({ data }) => {
  if (data.loaded) {
    loaded.set(data.loaded.path, data.loaded.size);
    advance([...loaded.values()].reduce((sum, size) => sum + size, 0));
  }
  const job = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error !== undefined) job?.reject(new Refusal(data.error, data.isText ? 400 : 0));
  else job?.resolve(data.result);
});

/**
 * Waits until the model is loaded.
 * @param {(bytes: number) => void} progress Called with the number of bytes that were loaded.
 * @returns {Promise<void>}
 */
export function load(progress) {
  advance = progress;
  return opened;
}

/**
 * Predicts texts.
 * @param {string[]} names The name of the classifier.
 * @param {Text[]} texts
 * @param {AbortSignal} signal
 * @returns {Promise<{answers: Record<string, Prediction[]>, milliseconds: number, parts: Record<string, number>,
 *   cut: number}>} The predictions, one per text; the time that they took, and its parts; and the number of truncated
 *   texts.
 */
export async function predict(names, texts, signal) {
  await opened;
  const started = performance.now();
  const { predictions, parts, cut } = await ask({ texts }, signal);
  return { answers: { [names[0]]: predictions }, milliseconds: performance.now() - started, parts, cut };
}

/**
 * Finds the words that a prediction depends on.
 * @param {string} _name
 * @param {Text} text
 * @param {string | null} label The label to explain; null for the most probable.
 * @param {AbortSignal} signal
 * @returns {Promise<any>} The explanation of the text, as in `keras-peft explain --json`.
 */
export function explain(_name, text, label, signal) {
  return ask({ text, label }, signal);
}

async function ask(asked, signal) {
  await opened;
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const id = next++;
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, ...asked });
    signal.addEventListener("abort", () => {
      if (!waiting.delete(id)) return;
      worker.postMessage({ cancel: id });
      reject(signal.reason);
    });
  });
}
