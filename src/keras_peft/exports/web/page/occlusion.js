/**
 * Explains predictions by occlusion: each word is left out in turn and the rest is classified again.
 *
 * As keras-peft does in Python; see Li, Monroe and Jurafsky 2016, "Understanding Neural Networks through Representation
 * Erasure".
 */

const MOST_RUNS = 100;
// Probabilities closer to 0 or 1 than this are clipped.
const LEAST = 1e-12;
// Scripts without spaces between words; each character counts as a word.
const SPACELESS = ["Han", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"].map((name) => `\\p{Script=${name}}`).join("");
const LETTER = `[[\\p{L}\\p{M}\\p{N}_]--[${SPACELESS}]]`;
// Numbers, words with apostrophes, and a repeated punctuation mark.
const WORD = new RegExp(`\\p{N}+(?:[.,]\\p{N}+)+|${LETTER}+(?:['’]${LETTER}+)*|([!?.])\\1+`, "vy");

/**
 * Explains a prediction.
 * @param {import("./classifier.js").Classifier} classifier
 * @param {unknown} given A text or a pair of texts.
 * @param {string | null} label The label to explain; null for the most probable.
 * @param {() => Promise<void>} pause Called between batches.
 * @returns {Promise<any>} The explanation, as in `keras-peft explain --json`.
 */
export async function explain(classifier, given, label, pause) {
  const { encoder, content } = classifier;
  const text = encoder.read(given);
  const texts = typeof text === "string" ? [text] : text;
  const seen = encoder.seen(text);
  // Text past the truncation is always left out; otherwise it would move up when a word is removed.
  const spans = texts.map((one, part) => wordsOf(one).filter(([start]) => start < seen[part].length));
  const length = Math.max(1, Math.ceil(spans.flat().length / MOST_RUNS));
  const runs = spans.flatMap((own, part) => joined(own, length).map(([start, end]) => ({ part, start, end })));
  const rows = [text, ...runs.map((run) => without(seen, run))];
  const probabilities = await classifier.probabilities(rows, pause);
  const order = content.labels.map((_, at) => at).sort((one, other) => probabilities[0][other] - probabilities[0][one]);
  const number = label === null ? order[0] : content.labels.indexOf(label);
  const logOdds = probabilities.map((own) => {
    const clipped = Math.min(Math.max(own[number], LEAST), 1 - LEAST);
    return Math.log(clipped) - Math.log1p(-clipped);
  });
  const weighed = runs.map((run, at) => ({
    ...run,
    weight: logOdds[0] - logOdds[at + 1],
    without: probabilities[at + 1][number],
  }));
  const unread = texts.flatMap((one, part) =>
    wordsOf(one)
      .filter(([start]) => start >= seen[part].length)
      .map(([start, end]) => ({ part, start, end, weight: null, without: null })),
  );
  const words = [...weighed, ...unread].sort((one, other) => one.part - other.part || one.start - other.start);
  return {
    text,
    label: content.labels[number],
    probability: probabilities[0][number],
    probabilities: Object.fromEntries(order.map((at) => [content.labels[at], probabilities[0][at]])),
    words: words.map((word) => ({ ...word, ...shown(texts[word.part], word) })),
    run_length: length,
    abstain_below: content.task_options.abstain_below ?? null,
  };
}

/** Returns the characters of a word, and its offsets in characters, not in UTF-16 units. */
function shown(text, { start, end }) {
  const before = Array.from(text.slice(0, start)).length;
  const word = text.slice(start, end);
  return { start: before, end: before + Array.from(word).length, text: word };
}

/** Returns the start and end of the words of a text, in UTF-16 units. */
function wordsOf(text) {
  const clusters = new Intl.Segmenter("en", { granularity: "grapheme" }).segment(text);
  const found = [];
  for (let at = 0; at < text.length; ) {
    WORD.lastIndex = at;
    const word = WORD.exec(text);
    const { index, segment } = word ? { index: at, segment: word[0] } : clusters.containing(at);
    const end = index + segment.length;
    if (word || /\S/u.test(segment)) found.push([at, end]);
    at = end;
  }
  return found;
}

/** Joins adjacent words into runs. */
function joined(spans, length) {
  const runs = [];
  for (let at = 0; at < spans.length; at += length) {
    runs.push([spans[at][0], spans[Math.min(at + length, spans.length) - 1][1]]);
  }
  return runs;
}

/** Removes a run of characters from one of the texts, along with one adjacent space. */
function without(texts, { part, start, end }) {
  const before = texts[part].slice(0, start);
  const after = texts[part].slice(end);
  const changed = before + (/(^|\s)$/u.test(before) ? after.replace(/^\s/u, "") : after);
  return texts.length > 1 ? texts.with(part, changed) : changed;
}
