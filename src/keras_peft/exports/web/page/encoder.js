/** Converts texts to token ids, as the encoders of keras-peft do in Python. */

// Whitespace and letters as in Python's regular expressions.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const EDGES = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "gu");
const WORD = new RegExp(`[\\p{L}\\p{N}_]+|[^\\p{L}\\p{N}_${SPACE}]`, "gu");

/** A text that cannot be read. */
export class UnreadableText extends Error {}

/**
 * The tokens of a text.
 * @typedef {object} Encoded
 * @property {number[][]} rows The ids of each window.
 * @property {boolean} isCut Whether the end of the text was cut off.
 * @property {number[] | null} places Position of each word's first token; -1 if it has none. Null for whole texts.
 */

/** Encodes texts, pairs of texts, or words. */
export class Encoder {
  /**
   * @param {any} tokenizer Of the library Tokenizers.js.
   * @param {any} content Content of keras_peft.json.
   * @param {any} page Content of page.json.
   */
  constructor(tokenizer, content, page) {
    this._tokenizer = tokenizer;
    this._most = content.max_length;
    this._around = page.special_tokens;
    this._marks = page.case_marks;
    this._isOfWords = content.task === "token-labels";
    this._overlaps = content.long_text === "window";
    this._stride = this._overlaps ? Math.floor((this._most - this._around.of_text.flat().length) / 4) : 0;
    // JavaScript lowercases a sigma at the end of a word to another letter than the tokenizers of Python do.
    this._lowersSigma = tokenizer.normalizer?.("Σ") === "σ";
  }

  /**
   * Reads a text as a user gives it.
   * @param {unknown} given A text, a pair of texts, or a list of words.
   * @returns {string | string[]} The text, the pair, or the words.
   * @throws {UnreadableText}
   */
  read(given) {
    if (this._isOfWords) return readWords(given);
    const texts = (Array.isArray(given) ? given : [given]).map((text) => String(text).replace(EDGES, ""));
    check(texts);
    return texts.length > 1 ? texts : texts[0];
  }

  /**
   * Encodes a text.
   * @param {string | string[]} text From `read`.
   * @returns {Encoded}
   */
  encode(text) {
    if (this._isOfWords) return this._encodeWords(text);
    const texts = typeof text === "string" ? [text] : text;
    const around = texts.length > 1 ? this._around.of_pair : this._around.of_text;
    const parts = texts.map((one) => this.ids(one));
    const rooms = sharedRoom(parts.map((ids) => ids.length), this._most - around.flat().length);
    let rows = [[...around[0]]];
    for (const [at, ids] of parts.entries()) {
      const windows = windowsOf(ids, rooms[at], this._stride);
      rows = rows.flatMap((row) => windows.map((window) => [...row, ...window, ...around[at + 1]]));
    }
    if (this._overlaps) return { rows, isCut: false, places: null };
    return { rows: rows.slice(0, 1), isCut: parts.some((ids, at) => ids.length > rooms[at]), places: null };
  }

  /**
   * Returns the part of a text, or of both texts of a pair, that the model reads.
   * @param {string | string[]} text From `read`.
   * @returns {string[]}
   */
  seen(text) {
    const texts = typeof text === "string" ? [text] : text;
    if (this._overlaps) return texts;
    const around = texts.length > 1 ? this._around.of_pair : this._around.of_text;
    const lengths = texts.map((one) => this.ids(one).length);
    const rooms = sharedRoom(lengths, this._most - around.flat().length);
    return texts.map((one, at) => (lengths[at] > rooms[at] ? this._cut(one, rooms[at]) : one));
  }

  /** Returns the ids of a text, without special tokens. */
  ids(text) {
    return this._tokenizer.encode(this._lowersSigma ? text.replaceAll("Σ", "σ") : text, { add_special_tokens: false }).ids;
  }

  _encodeWords(words) {
    const [before, after] = this._around.of_text;
    const room = this._most - before.length - after.length;
    const ids = [];
    const places = [];
    for (const word of words) {
      const own = this.ids(word);
      places.push(own.length && ids.length < room ? before.length + ids.length : -1);
      ids.push(...own);
    }
    const row = [...before, ...ids.slice(0, room), ...after];
    const isCut = ids.length > room;
    return this._marks ? this._marked(row, places, words, isCut) : { rows: [row], isCut, places };
  }

  /** Inserts marks before the words with capitals. */
  _marked(row, places, words, isCut) {
    const marks = new Map();
    words.forEach((word, at) => {
      const mark = markOf(word, this._marks);
      if (places[at] >= 0 && mark !== null) marks.set(places[at], mark);
    });
    const marked = [];
    const moved = row.map((id, place) => {
      if (marks.has(place)) marked.push(marks.get(place));
      return marked.push(id) - 1;
    });
    const isLonger = marked.length > this._most;
    if (isLonger) marked.splice(this._most - 1, marked.length - this._most);
    const now = (place) => (place < 0 || (isLonger && moved[place] >= this._most - 1) ? -1 : moved[place]);
    return { rows: [marked], isCut: isCut || isLonger, places: places.map(now) };
  }

  /** Returns the shortest beginning of a text with the same first tokens, (room) of them. */
  _cut(text, room) {
    const wanted = this.ids(text).slice(0, room);
    const ends = [...text.matchAll(/\S+/gu)].map((word) => word.index + word[0].length);
    let [low, high] = [0, ends.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ids(text.slice(0, ends[middle])).length >= room) high = middle;
      else low = middle + 1;
    }
    // The last token may end within the last word.
    for (let end = low ? ends[low - 1] + 1 : 1; end < ends[low]; end += 1) {
      if (String(this.ids(text.slice(0, end))) === String(wanted)) return text.slice(0, end);
    }
    return text.slice(0, ends[low]);
  }
}

function check(texts) {
  if (!texts.every((text) => text.replace(EDGES, ""))) throw new UnreadableText("The text is empty.");
  if (!texts.every((text) => text.isWellFormed())) {
    throw new UnreadableText("The text has half of a character, an unpaired surrogate; remove it.");
  }
}

/** Returns the words of a text, of a list, or of a text that is a list in JSON. */
function readWords(given) {
  let words = given;
  if (typeof given === "string") words = jsonList(given) ?? given.match(WORD) ?? [];
  words = words.map((word) => (typeof word === "number" ? String(word) : word));
  if (!words.length || !words.every((word) => typeof word === "string")) {
    throw new UnreadableText("The text has no words; expected a text or a list of words.");
  }
  check(words);
  return words;
}

function jsonList(text) {
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** Returns how many tokens of each text are read, when the longer text of a pair is cut first. */
function sharedRoom(lengths, room) {
  if (lengths.length < 2) return [room];
  if (lengths[0] + lengths[1] <= room) return lengths;
  const isSwapped = lengths[0] > lengths[1];
  let shorter = Math.min(...lengths);
  let longer = shorter > room ? shorter : Math.max(shorter, room - shorter);
  if (shorter + longer > room) {
    shorter = Math.floor(room / 2);
    longer = shorter + (room % 2);
  }
  return isSwapped ? [longer, shorter] : [shorter, longer];
}

/** Splits ids into windows that overlap. */
function windowsOf(ids, room, stride) {
  const windows = [ids.slice(0, room)];
  for (let start = 0; start + room < ids.length; ) {
    start += Math.max(1, room - stride);
    windows.push(ids.slice(start, start + room));
  }
  return windows;
}

/** Returns the mark of a word, or null if it has no capitals. */
function markOf(word, [capital, throughout, others]) {
  if (word.toLowerCase() === word) return null;
  const [first] = word;
  const rest = word.slice(first.length);
  if (rest && word.toUpperCase() === word) return throughout;
  return rest.toLowerCase() === rest ? capital : others;
}
