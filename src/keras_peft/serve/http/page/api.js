/** The page's requests to the server. */

/**
 * An adapter's prediction for a text; its form depends on the task.
 * @typedef {{label: string | null, probabilities: [string, number][]}
 *   | {labels: string[], probabilities: [string, number][]}
 *   | {value: number}
 *   | {tokens: string[], tags: string[], entities: {label: string, start: number, end: number}[]}} Prediction
 *
 * @typedef {string | string[]} Text A text, a pair of them, or words.
 */

const ROOT = new URL("..", import.meta.url);
const STORED = "keras-peft-key";

/** An error response, or no response at all (status 0). */
export class Refusal extends Error {
  /** @param {string} message @param {number} status @param {number} retryAfter In seconds. */
  constructor(message, status, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Stores an API key until the tab is closed; pages opened from the tab have it too. */
export function setKey(key) {
  sessionStorage.setItem(STORED, key);
}

/** @returns {Promise<any[]>} The adapters and their states. */
export async function listAdapters() {
  return (await (await ask("v1/adapters")).json()).data;
}

/** @returns {Promise<string>} The name of the base model. */
export async function baseName() {
  return (await (await ask("info")).json()).model_id;
}

/**
 * Requests the predictions of adapters that have the same input.
 * @param {string[]} names
 * @param {Text[]} texts
 * @param {AbortSignal} signal
 * @returns {Promise<{answers: Record<string, Prediction[]>, milliseconds: number, parts: Record<string, number>,
 *   cut: number}>} The predictions of each adapter, one per text; the time that the request took, as seen by the
 *   browser; the milliseconds of its parts on the server; and the number of truncated texts.
 */
export async function predict(names, texts, signal) {
  const started = performance.now();
  const response = await ask("v1/classify", { model: names, input: texts }, signal);
  const answered = Object.entries(await response.json());
  const milliseconds = performance.now() - started;
  const answers = Object.fromEntries(answered.map(([name, own]) => [name, own.data.map((datum) => read(datum, own.classes))]));
  const parts = {};
  for (const part of ["tokenization", "queue", "inference"]) {
    const told = response.headers.get(`x-${part}-time`);
    if (told !== null) parts[part] = Number(told);
  }
  return { answers, milliseconds, parts, cut: Number(response.headers.get("x-cut-texts") ?? 0) };
}

/**
 * Requests the words that a prediction depends on.
 * @param {string} name
 * @param {Text} text
 * @param {string | null} label The label to explain; null for the most probable.
 * @param {AbortSignal} signal
 * @returns {Promise<any>} The explanation of a text, as in `keras-peft explain --json`.
 */
export async function explain(name, text, label, signal) {
  return (await ask("v1/explain", { model: name, input: text, label }, signal)).json();
}

/** @returns {Promise<string>} An adapter's report, as HTML. */
export async function readReport(name) {
  return (await ask(`v1/adapters/${encodeURIComponent(name)}/report`)).text();
}

/** Converts a prediction of the server; probabilities get their labels, the most probable first. */
function read({ probs, label, labels, value, tokens, tags, entities }, classes) {
  if (tags) return { tokens, tags, entities };
  if (value !== undefined) return { value };
  const sorted = probs.map((probability, at) => [classes[at], probability]).sort((one, other) => other[1] - one[1]);
  // A list, because an object would move labels that are numbers to the front.
  return { ...(labels ? { labels } : { label }), probabilities: sorted };
}

async function ask(path, body = undefined, signal = undefined) {
  const headers = {};
  const key = sessionStorage.getItem(STORED);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("Cannot reach the server; check that it is running, and try again.", 0);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  const message = told.error?.message ?? told.error ?? `The server responded with status ${response.status}.`;
  throw new Refusal(message, response.status, Number(response.headers.get("retry-after") ?? 0));
}
