/** The predictions of adapters for a text, side by side. */

import { explain } from "./api.js";
import { counted, fixed, make, tell } from "./dom.js";
import { drawExplanation } from "./explanation.js";

const MOST_BARS = 6;

/**
 * Describes a prediction in a few words.
 * @param {import("./api.js").Prediction} prediction
 * @returns {string}
 */
export function summary(prediction) {
  if ("value" in prediction) return fixed(prediction.value);
  if ("tags" in prediction) {
    const { tokens, tags, entities } = prediction;
    const marked = entities.map(({ label, start, end }) => `${tokens.slice(start, end).join(" ")} ${label}`);
    return marked.join(", ") || tags.join(" ");
  }
  const { label, labels, probabilities } = prediction;
  if (labels) return labels.join(", ") || "no labels";
  return label === null ? "abstains" : `${label} ${fixed(probabilities[0][1])}`;
}

/**
 * Draws the prediction of an adapter for a text.
 * @param {any} adapter
 * @param {import("./api.js").Prediction} prediction
 * @param {import("./api.js").Text} text
 * @param {number} milliseconds The time that the answer took.
 * @returns {HTMLElement}
 */
export function drawResult(adapter, prediction, text, milliseconds) {
  const title = make("h3", {}, adapter.name, make("span", { className: "soft" }, `${milliseconds.toFixed(0)} ms`));
  const hasLabels = "probabilities" in prediction;
  const parts = "value" in prediction ? [make("p", { className: "answer" }, fixed(prediction.value))]
    : "tags" in prediction ? [drawTags(prediction)]
    : drawLabels(adapter, prediction);
  const words = hasLabels ? drawAsking(adapter, text, prediction.probabilities.map(([label]) => label)) : null;
  return make("article", { className: "result" }, make("div", {}, title, ...parts), words);
}

/** Draws the error of an adapter that did not answer. */
export function drawFailure(adapter, message) {
  return make("article", { className: "result" }, make("h3", {}, adapter.name), make("p", { className: "problem" }, message));
}

/**
 * Describes the time of the slowest answer and its parts, and whether the text was truncated.
 * @param {{milliseconds?: number, parts?: Record<string, number>, cut?: number}[]} results
 * @returns {string}
 */
export function timing(results) {
  const slowest = results.reduce((one, other) => ((other.milliseconds ?? 0) > (one.milliseconds ?? 0) ? other : one));
  if (!slowest.milliseconds) return "No prediction.";
  const words = { tokenization: "tokenizing", queue: "waiting", inference: "computing" };
  const spent = Object.entries(slowest.parts).filter(([, milliseconds]) => milliseconds > 0);
  const parts = spent.map(([part, milliseconds]) => `${words[part]} ${milliseconds}`);
  const note = results.some((result) => result.cut) ? " The text was truncated." : "";
  return `${slowest.milliseconds.toFixed(0)} ms${parts.length ? `, including ${parts.join(", ")}` : ""}.${note}`;
}

function drawLabels(adapter, prediction) {
  const { label, labels, probabilities } = prediction;
  const said = labels ?? (label === null ? [] : [label]);
  const parts = [make("p", { className: "answer" }, said.join(", ") || (labels ? "none" : "abstains"))];
  if (label === null) {
    const least = adapter.abstain_below;
    const needed = least ? `the required probability of ${fixed(least)}` : "enough probability";
    parts.push(make("p", { className: "soft" }, `No label has ${needed}.`));
  }
  const rows = probabilities.map(([name, probability]) => drawBar(name, probability, said.includes(name)));
  parts.push(make("ul", { className: "bars", ariaLabel: "Probabilities" }, ...rows.slice(0, MOST_BARS)));
  if (rows.length > MOST_BARS) {
    const others = make("ul", { className: "bars" }, ...rows.slice(MOST_BARS));
    parts.push(make("details", {}, make("summary", {}, `${rows.length - MOST_BARS} more`), others));
  }
  return parts;
}

function drawBar(label, probability, isSaid) {
  const bar = make("span", { className: "bar" });
  bar.style.setProperty("--length", `${100 * probability}%`);
  return make(
    "li",
    { className: isSaid ? "said" : "" },
    make("span", { className: "label" }, label),
    " ",
    make("span", { className: "number" }, fixed(probability)),
    bar,
  );
}

/** Draws the words, each followed by its tag. */
function drawTags({ tokens, tags, entities }) {
  const text = make("p", { className: "text tagged", dir: "auto" });
  const marked = (words, tag) => make("mark", { className: "for strong" }, words, "\u00a0", make("small", {}, tag));
  const starts = new Map(entities.map((entity) => [entity.start, entity]));
  for (let at = 0; at < tokens.length; ) {
    const entity = starts.get(at);
    const end = entity?.end ?? at + 1;
    const words = tokens.slice(at, end).join(" ");
    const isPlain = !entity && tags[at] === "O";
    text.append(isPlain ? words : marked(words, entity?.label ?? tags[at]), " ");
    at = end;
  }
  return text;
}

/** Draws the button that requests an explanation, and the place for it. */
function drawAsking(adapter, text, labels) {
  const place = make("div", { className: "explanation" });
  const told = make("p", { role: "status" });
  const button = make("button", { type: "button", className: "plain", ariaLabel: `Explain ${adapter.name}` }, "Explain");
  let asking = new AbortController();

  async function ask(label) {
    asking.abort();
    asking = new AbortController();
    tell(told, "Leaving out each word in turn…");
    try {
      const explanation = await explain(adapter.name, text, label, asking.signal);
      const choice = make("select", {}, ...labels.map((one) => make("option", { selected: one === explanation.label }, one)));
      choice.addEventListener("change", () => ask(choice.value));
      const wasFocused = place.contains(document.activeElement);
      place.replaceChildren(make("label", { className: "tools" }, "Explain label", choice), ...drawExplanation(explanation));
      if (wasFocused) choice.focus();
      tell(told, "");
    } catch (error) {
      if (error.name !== "AbortError") tell(told, error.message, true);
    }
  }

  button.addEventListener("click", async () => {
    await ask(null);
    if (place.childElementCount) {
      place.querySelector("select").focus();
      button.remove();
    }
  });
  return make("div", {}, button, told, place);
}
