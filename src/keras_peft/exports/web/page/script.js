/** The page: predicts a text in the browser and shows the prediction. */

import { load, predict } from "./api.js";
import { byId, show, tell } from "./dom.js";
import { FilePart } from "./file.js";
import { textOf } from "./forms.js";
import { drawResult, summary, timing } from "./results.js";

/** @type {any} The classifier, in the form of the server's adapters. */
const adapter = JSON.parse(byId("main").dataset.classifier);
const filePart = new FilePart(() => [adapter]);
let asking = new AbortController();

async function start() {
  filePart.update();
  byId("predict").disabled = false;
  try {
    await load((bytes) => (byId("loading-bar").value = bytes));
    tell(byId("told"), "The model is loaded.");
  } catch (error) {
    tell(byId("told"), error.message, true);
  }
  show(byId("loading"), false);
}

async function predictText() {
  const told = byId("told");
  const texts = [byId("text").value, byId("second-text")?.value];
  const text = textOf(adapter, texts);
  if (text === null) {
    byId(texts[0].trim() ? "second-text" : "text").focus();
    return tell(told, texts[0].trim() ? "Enter the second text too." : "Enter a text first.", true);
  }
  asking.abort();
  asking = new AbortController();
  if (byId("loading").hidden) tell(told, "Predicting…");
  try {
    const { answers, ...measured } = await predict([adapter.name], [text], asking.signal);
    const prediction = answers[adapter.name][0];
    byId("results").replaceChildren(drawResult(adapter, prediction, text, measured.milliseconds));
    tell(told, timing([measured]), false, ` ${summary(prediction)}.`);
  } catch (error) {
    if (error.name !== "AbortError") tell(told, error.message, true);
  }
  return undefined;
}

byId("text-form").addEventListener("submit", (event) => {
  event.preventDefault();
  predictText();
});
byId("text-form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    predictText();
  }
});
start();
