/** Converts the outputs of a model to predictions: one function for each task of keras-peft. */

const OUTSIDE = "O";

/**
 * @param {any} content Content of keras_peft.json.
 * @returns {(outputs: any, text: any) => import("./api.js").Prediction} From the outputs of a text, or of each of its
 *   words, to its prediction.
 */
export function predictor(content) {
  const { task, labels } = content;
  const { abstain_below: least = null, thresholds = [] } = content.task_options;
  if (task === "regression") return ([value]) => ({ value });
  if (task === "token-labels") return (outputs, words) => tagged(outputs, words, labels);
  if (task === "multi-label") {
    return (outputs) => {
      const found = outputs.map((logit) => 1 / (1 + Math.exp(-logit)));
      const probabilities = sorted(labels, found);
      const isSaid = new Set(labels.filter((_, at) => found[at] >= (thresholds[at] ?? 0.5)));
      return { labels: probabilities.map(([label]) => label).filter((label) => isSaid.has(label)), probabilities };
    };
  }
  return (outputs) => {
    const probabilities = sorted(labels, softmax(outputs));
    const [label, probability] = probabilities[0];
    return { label: least === null || probability >= least ? label : null, probabilities };
  };
}

/**
 * Returns the probabilities of the labels, in their order.
 * @param {any} content Content of keras_peft.json.
 * @param {number[]} outputs
 * @returns {number[]}
 */
export function probabilitiesOf(content, outputs) {
  return content.task === "multi-label" ? outputs.map((logit) => 1 / (1 + Math.exp(-logit))) : softmax(outputs);
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** Returns labels with their probabilities, the most probable first. */
function sorted(labels, probabilities) {
  return labels.map((label, at) => [label, probabilities[at]]).sort((one, other) => other[1] - one[1]);
}

function tagged(outputs, words, labels) {
  const outside = Math.max(0, labels.indexOf(OUTSIDE));
  // Words that were cut off have no logits.
  const tags = outputs.map((logits) => labels[logits ? logits.indexOf(Math.max(...logits)) : outside]);
  const inside = labels.filter((label) => label !== OUTSIDE);
  const marksSpans = inside.length > 0 && inside.every((label) => /^[BI]-./su.test(label));
  return { tokens: words, tags, entities: marksSpans ? spansOf(tags) : [] };
}

/** Finds the entities that BIO tags mark, as conlleval does. */
function spansOf(tags) {
  const spans = [];
  let open = null;
  [...tags, OUTSIDE].forEach((tag, at) => {
    const label = tag === OUTSIDE ? "" : tag.slice(2);
    if (open && (label !== open.label || tag.startsWith("B-"))) {
      spans.push({ ...open, end: at });
      open = null;
    }
    if (label && !open) open = { label, start: at };
  });
  return spans;
}
