/** Runs the classifier apart from the page, so that the page stays responsive. */

import { Classifier } from "./classifier.js";
import { UnreadableText } from "./encoder.js";
import { explain } from "./occlusion.js";

const ROOT = new URL("..", import.meta.url);

/** @type {Set<number>} The jobs that were cancelled while they run. */
const cancelled = new Set();

/** Reads a file, and reports the progress of the large ones. */
async function read(path, sum) {
  const isLarge = /\.(onnx|wasm)$/.test(path);
  let response;
  try {
    // A new export in the same place has other checksums, so that no file of the old one is used.
    response = await fetch(new URL(sum ? `${path}?${sum}` : path, ROOT), { cache: sum ? "default" : "no-cache" });
  } catch {
    throw new Error(`${path} could not be loaded; check the connection, and reload the page.`);
  }
  if (!response.ok) throw new Error(`${path} could not be loaded (status ${response.status}); copy the folder again.`);
  const parts = [];
  let size = 0;
  const reader = response.body.getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    parts.push(step.value);
    size += step.value.length;
    if (isLarge) postMessage({ loaded: { path, size } });
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const opening = Classifier.open(read).then(async (classifier) => {
  // The first run compiles the code.
  await classifier.predict([sample(classifier.content)]);
  return classifier;
});
opening.then(
  () => postMessage({ isOpen: true }),
  (error) => postMessage({ failed: error.message }),
);

function sample(content) {
  return content.columns.length > 2 ? ["first", "second"] : "first";
}

onmessage = async ({ data }) => {
  const { id, texts, text, label, cancel } = data;
  if (cancel !== undefined) return cancelled.add(cancel);
  /** Lets other messages through, which may cancel the job. */
  const pause = async () => {
    await new Promise((resolve) => setTimeout(resolve));
    if (cancelled.has(id)) throw new DOMException("Cancelled.", "AbortError");
  };
  try {
    const classifier = await opening;
    const result = await (texts ? classifier.predict(texts, pause) : explain(classifier, text, label, pause));
    postMessage({ id, result });
  } catch (error) {
    postMessage({ id, error: error.message, isText: error instanceof UnreadableText });
  }
  return cancelled.delete(id);
};
