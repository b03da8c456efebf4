/** The page: sends a text to the chosen adapters and shows their predictions side by side. */

import { AdapterList } from "./adapters.js";
import { baseName, listAdapters, predict, Refusal, setKey } from "./api.js";
import { byId, counted, show, tell } from "./dom.js";
import { FilePart } from "./file.js";
import { byForm, readsPairs, textOf } from "./forms.js";
import { drawFailure, drawResult, summary, timing } from "./results.js";

const REFRESH_MS = 5000;
// The number of predictions that a screen reader reads out.
const MOST_TOLD = 5;

const adapters = new AdapterList(adapt);
const filePart = new FilePart(() => adapters.chosen);
let asking = new AbortController();
let base = "";

/** Shows the fields that the chosen adapters need. */
function adapt() {
  const { chosen } = adapters;
  const pairs = chosen.filter((adapter) => readsPairs(adapter));
  show(byId("second"), pairs.length > 0);
  const notes = [
    pairs.length && pairs.length < chosen.length ? "Adapters that do not read pairs get the first text." : "",
    chosen.some((adapter) => adapter.reads_words) ? "For adapters that tag words, the text is split at spaces and punctuation." : "",
  ];
  byId("text-note").textContent = notes.filter(Boolean).join(" ");
  byId("text-label").textContent = pairs.length ? "First text" : "Text";
  filePart.update();
}

async function refresh() {
  try {
    const known = await listAdapters();
    adapters.update(known);
    base ||= await baseName();
    tell(byId("summary"), `${counted(known.length, "adapter")} on the base model ${base}`);
    show(byId("key-form"), false);
  } catch (error) {
    if (error.status === 401) askForKey(error.message);
    tell(byId("chosen"), error.message, true);
  }
}

function askForKey() {
  if (!byId("key-form").hidden) return;
  show(byId("key-form"), true);
  byId("key").focus();
}

async function predictText() {
  const { chosen } = adapters;
  const texts = [byId("text").value, byId("second-text").value];
  const told = byId("told");
  if (!chosen.length) return tell(told, "Choose at least one adapter.", true);
  const missing = chosen.find((adapter) => textOf(adapter, texts) === null);
  if (missing) {
    byId(texts[0].trim() ? "second-text" : "text").focus();
    return tell(told, texts[0].trim() ? `${missing.name} reads two texts; enter the second text too.` : "Enter a text first.", true);
  }
  asking.abort();
  const mine = new AbortController();
  asking = mine;
  tell(told, "Predicting…");
  const groups = byForm(chosen);
  try {
    const answered = await Promise.all(groups.map((group) => askGroup(group, textOf(group[0], texts), mine.signal)));
    const found = new Map(answered.flat().map((result) => [result.adapter.name, result]));
    const results = chosen.map((adapter) => found.get(adapter.name));
    byId("results").replaceChildren(...results.map((result) => result.card));
    tell(told, timing(results), false, ` ${results.slice(0, MOST_TOLD).map((result) => result.said).join(" ")}`);
  } catch (error) {
    if (error.name !== "AbortError") tell(told, error.message, true);
    if (error.status === 401) askForKey();
  }
  return refresh();
}

/** Sends one request for several adapters; if it fails, one for each, so that the others answer. */
async function askGroup(group, text, signal) {
  const names = group.map((adapter) => adapter.name);
  try {
    const { answers, milliseconds, parts, cut } = await predict(names, [text], signal);
    return group.map((adapter) => {
      const prediction = answers[adapter.name][0];
      const said = `${adapter.name}: ${summary(prediction)}.`;
      return { adapter, card: drawResult(adapter, prediction, text, milliseconds), said, milliseconds, parts, cut };
    });
  } catch (error) {
    if (!(error instanceof Refusal) || [0, 401, 429].includes(error.status)) throw error;
    if (group.length > 1) return (await Promise.all(group.map((one) => askGroup([one], text, signal)))).flat();
    return [{ adapter: group[0], card: drawFailure(group[0], error.message), said: `${group[0].name} failed.` }];
  }
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
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value.trim());
  byId("key").value = "";
  refresh();
});
setInterval(() => document.hidden || refresh(), REFRESH_MS);
refresh();
