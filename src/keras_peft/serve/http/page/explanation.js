/** Marks the words of a text that a prediction depends on. */

import { counted, fixed, make } from "./dom.js";

const MOST_WORDS = 5;
// The smallest share of the largest weight that is marked.
const LEAST_SHARE = 0.05;

/**
 * Draws an explanation.
 * @param {any} explanation
 * @returns {HTMLElement[]}
 */
export function drawExplanation(explanation) {
  const { words, text } = explanation;
  const weighed = words.filter((word) => word.weight !== null);
  // At least 1, so that small weights are not drawn as large ones.
  const scale = Math.max(1, ...weighed.map((word) => Math.abs(word.weight)));
  const texts = typeof text === "string" ? [text] : text;
  const strongest = weighed.toSorted((one, other) => Math.abs(other.weight) - Math.abs(one.weight)).slice(0, MOST_WORDS);
  const unread = words.length - weighed.length;
  const notes = [
    explanation.run_length > 1 ? `The text is long, so up to ${explanation.run_length} words are left out together.` : "",
    unread ? `The text was truncated: ${counted(unread, "word")} at its end, struck through, ${unread === 1 ? "was" : "were"} not read.` : "",
  ].filter(Boolean);
  return [
    ...texts.map((one, part) => drawText(one, words.filter((word) => word.part === part), scale)),
    make("p", { className: "key soft" }, drawMark("solid line", 1, 0.8), " supports the label, ", drawMark("dashed line", -1, 0.8), " opposes it"),
    ...notes.map((note) => make("p", { className: "soft" }, note)),
    drawStrongest(strongest),
  ];
}

function drawText(text, words, scale) {
  // The offsets count characters, as in Python, not UTF-16 units.
  const characters = Array.from(text);
  const piece = (start, end) => characters.slice(start, end).join("");
  const paragraph = make("p", { className: "text", dir: "auto" });
  let at = 0;
  for (const word of words) {
    paragraph.append(piece(at, word.start), drawWord(piece(word.start, word.end), word, scale));
    at = word.end;
  }
  paragraph.append(piece(at));
  return paragraph;
}

function drawWord(shown, word, scale) {
  if (word.weight === null) return make("s", { className: "unread" }, shown);
  const share = Math.abs(word.weight) / scale;
  const mark = share < LEAST_SHARE ? make("span", {}, shown) : drawMark(shown, word.weight, share);
  mark.title = `${signed(word.weight)}; without it ${fixed(word.without)}`;
  return mark;
}

function drawMark(shown, weight, share) {
  const mark = make("mark", { className: weight > 0 ? "for" : "against" }, shown);
  mark.style.setProperty("--strength", (0.5 * share).toFixed(2));
  mark.style.setProperty("--edge", Math.min(1, 0.3 + share).toFixed(2));
  return mark;
}

function drawStrongest(words) {
  const heads = ["word", "weight", "without it"].map((head) => make("th", { scope: "col" }, head));
  const rows = words.map((word) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, word.text),
      make("td", {}, signed(word.weight)),
      make("td", {}, fixed(word.without)),
    ),
  );
  const caption = make("caption", {}, "Strongest words ", make("span", { className: "soft" }, "and the probability without each"));
  return make("table", { className: "strongest" }, caption, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

const signed = (weight) => `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;
