/** Adds the predictions of adapters to a file of texts. */

import { predict, Refusal } from "./api.js";
import { byId, counted, fixed, show, tell } from "./dom.js";
import { byForm, readsPairs, textOf } from "./forms.js";
import { readTable, writeTable } from "./table.js";

const MOST_BYTES = 200e6;
// The number of rows times adapters per request, and of concurrent requests, so that the server is never idle.
const ANSWERS_AT_ONCE = 64;
const REQUESTS_AT_ONCE = 3;
const MOST_TRIES = 8;

/** The part of the page that predicts files. */
export class FilePart {
  /** @param {() => any[]} chosen Returns the chosen adapters. */
  constructor(chosen) {
    this._chosen = chosen;
    /** @type {{columns: string[], rows: any[], name: string} | null} */
    this._table = null;
    this._running = new AbortController();
    byId("file").addEventListener("change", () => this._read());
    byId("file-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._start();
    });
    byId("cancel").addEventListener("click", () => this._running.abort());
  }

  /** Shows the choice of a second column if a chosen adapter reads pairs. */
  update() {
    show(byId("second-column-field"), this._chosen().some(readsPairs));
  }

  async _read() {
    const file = byId("file").files[0];
    this._table = null;
    show(byId("columns"), false);
    this._offer(null);
    if (!file) return tell(byId("file-told"), "");
    try {
      if (file.size > MOST_BYTES) throw new Error(`${file.name} is larger than 200 MB; use keras-peft predict.`);
      const content = decode(await file.arrayBuffer(), file.name);
      this._table = { ...readTable(content, file.name), name: file.name };
    } catch (error) {
      return tell(byId("file-told"), error.message, true);
    }
    const { columns, rows } = this._table;
    const wanted = this._chosen().flatMap((adapter) => adapter.columns ?? []);
    fill(byId("column"), columns, [wanted[0], "text", "text_a", "tokens"]);
    fill(byId("second-column"), columns, [wanted[1], "text_b", columns[1]]);
    show(byId("columns"), true);
    tell(byId("file-told"), `${counted(rows.length, "row")} in ${file.name}.`);
    return undefined;
  }

  async _start() {
    const adapters = this._chosen();
    if (!this._table) return tell(byId("file-told"), "Choose a file first.", true);
    if (!adapters.length) return tell(byId("file-told"), "Choose an adapter first.", true);
    const { columns, rows, name } = this._table;
    const running = new AbortController();
    this._running = running;
    this._offer(null);
    this._turn(true);
    const bar = Object.assign(byId("progress"), { max: rows.length, value: 0 });
    const started = performance.now();
    const advance = (done) => {
      bar.value = done;
      const seconds = ((performance.now() - started) / 1000) * (rows.length / done - 1);
      tell(byId("file-told"), `${done.toLocaleString("en")} of ${counted(rows.length, "row")}, ${left(seconds)} left`);
    };
    const texts = rows.map((row) => [row[byId("column").value], row[byId("second-column").value]]);
    try {
      const { added, cells } = await predictRows(adapters, texts, advance, running.signal);
      const answered = rows.map((row, at) => ({ ...row, ...cells[at] }));
      this._offer(writeTable([...columns, ...added], answered), name);
      const bad = cells.filter((row) => row.error).length;
      const all = `${counted(rows.length, "row")} in ${left((performance.now() - started) / 1000)}.`;
      tell(byId("file-told"), bad ? `${all} ${counted(bad, "row")} could not be predicted; see the column error.` : all);
    } catch (error) {
      running.abort();
      const isCancelled = error.name === "AbortError";
      tell(byId("file-told"), isCancelled ? "Cancelled." : error.message, !isCancelled);
    }
    this._turn(false);
    byId(byId("file-result").hidden ? "start" : "download").focus();
    return undefined;
  }

  _turn(isRunning) {
    show(byId("running"), isRunning);
    show(byId("columns"), !isRunning);
    byId("file").disabled = isRunning;
    if (isRunning) byId("cancel").focus();
  }

  /** Offers a result for download, or removes the last one. */
  _offer(content, name = "") {
    const link = byId("download");
    if (link.href) URL.revokeObjectURL(link.href);
    link.removeAttribute("href");
    show(byId("file-result"), content !== null);
    if (content === null) return;
    link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
    link.download = `${name.replace(/\.\w+$/, "")}.predicted.csv`;
    link.textContent = `Download ${link.download}`;
  }
}

/** Requests the predictions of all adapters for all rows, some rows at a time. */
async function predictRows(adapters, texts, advance, signal) {
  const cells = texts.map(() => ({}));
  const size = Math.max(1, Math.floor(ANSWERS_AT_ONCE / adapters.length));
  let next = 0;
  let done = 0;
  async function work() {
    while (next < texts.length) {
      const start = next;
      next += size;
      const places = texts.slice(start, start + size).map((_, at) => start + at);
      for (const group of byForm(adapters)) await answer(group, places);
      done += places.length;
      advance(done);
    }
  }
  async function answer(group, places) {
    const readable = places.filter((place) => textOf(group[0], texts[place]) !== null);
    for (const place of places) if (!readable.includes(place)) cells[place].error = "The text is empty.";
    if (readable.length) await ask(group, readable);
  }
  /** If a request is rejected because of a text, the rows are split until only that text fails. */
  async function ask(group, places) {
    try {
      const given = places.map((place) => textOf(group[0], texts[place]));
      const { answers } = await patiently(() => predict(group.map((adapter) => adapter.name), given, signal), signal);
      for (const { name } of group) {
        answers[name].forEach((prediction, at) => Object.assign(cells[places[at]], named(name, prediction)));
      }
    } catch (error) {
      if (!(error instanceof Refusal) || ![400, 413].includes(error.status)) throw error;
      if (places.length === 1) {
        cells[places[0]].error = error.message;
        return;
      }
      const half = Math.ceil(places.length / 2);
      await ask(group, places.slice(0, half));
      await ask(group, places.slice(half));
    }
  }
  await Promise.all(Array.from({ length: REQUESTS_AT_ONCE }, work));
  const found = new Set(cells.flatMap((row) => Object.keys(row)));
  const hasErrors = found.delete("error");
  return { added: [...found, ...(hasErrors ? ["error"] : [])], cells };
}

/** Repeats a request later if the server is busy. */
async function patiently(asked, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await asked();
    } catch (error) {
      const isBusy = error instanceof Refusal && [429, 503].includes(error.status);
      if (!isBusy || tries === MOST_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.max(error.retryAfter, 0.25 * tries)));
      signal.throwIfAborted();
    }
  }
}

/** Returns a prediction as columns of the result. */
function named(adapter, prediction) {
  const { label, labels, probabilities = [], value, tags } = prediction;
  const cells = {};
  if (value !== undefined) cells.value = value;
  if (tags) cells.tags = tags.join(" ");
  if (labels) cells.labels = labels.join("|");
  if (label !== undefined) Object.assign(cells, { label: label ?? "", probability: probabilities[0][1] });
  for (const [one, probability] of probabilities.toSorted()) cells[`probability.${one}`] = probability;
  return Object.fromEntries(Object.entries(cells).map(([column, content]) => [`${adapter}.${column}`, content]));
}

function decode(bytes, name) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error(`${name} is not UTF-8; save it as UTF-8.`);
  }
}

/** Fills a list of columns and chooses the first wanted column that exists. */
function fill(select, columns, wanted) {
  select.replaceChildren(...columns.map((column) => new Option(column)));
  select.value = wanted.find((column) => columns.includes(column)) ?? columns[0];
}

/** Formats a duration, such as "12 s" or "3 min". */
function left(seconds) {
  if (seconds < 10) return `${fixed(seconds).slice(0, 3)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
