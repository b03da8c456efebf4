/** The list of adapters, with their details and a checkbox for each. */

import { byId, counted, fixed, make, tell } from "./dom.js";

// If the server has more adapters than this, none is chosen at first.
const MOST_CHOSEN_AT_FIRST = 6;
const MOST_LABELS = 40;

/** The adapters of the server, with a checkbox for each. */
export class AdapterList {
  /** @param {() => void} changed Called when the choice changes. */
  constructor(changed) {
    this._changed = changed;
    this._list = byId("adapter-list");
    /** @type {Map<string, {adapter: any, told: string, item: HTMLElement, box: HTMLInputElement}>} */
    this._rows = new Map();
    byId("search").addEventListener("input", () => this._search());
    byId("choose-all").addEventListener("click", () => this._choose(true));
    byId("choose-none").addEventListener("click", () => this._choose(false));
  }

  /** @returns {any[]} The chosen adapters. */
  get chosen() {
    return [...this._rows.values()].filter((row) => row.box.checked).map((row) => row.adapter);
  }

  /** Updates the list. The choice and the focus do not change. */
  update(adapters) {
    const isFirst = this._rows.size === 0;
    const names = new Set(adapters.map((adapter) => adapter.name));
    for (const [name, row] of this._rows) {
      if (!names.has(name)) {
        row.item.remove();
        this._rows.delete(name);
      }
    }
    for (const [place, adapter] of adapters.entries()) {
      const row = this._rows.get(adapter.name) ?? this._row(adapter.name);
      const told = JSON.stringify(adapter);
      if (row.told !== told) describe(row.item, adapter);
      Object.assign(row, { adapter, told });
      if (this._list.children[place] !== row.item) this._list.insertBefore(row.item, this._list.children[place] ?? null);
      if (isFirst && adapters.length <= MOST_CHOSEN_AT_FIRST) row.box.checked = adapter.state !== "FAILED";
    }
    this._search();
    this._tell();
    this._changed();
  }

  _row(name) {
    const box = make("input", { type: "checkbox" });
    box.addEventListener("change", () => {
      this._tell();
      this._changed();
    });
    const item = make("li", {}, make("label", {}, box, make("span", { className: "name" }, name)), make("div"));
    const row = { adapter: { name }, told: "", item, box };
    this._rows.set(name, row);
    return row;
  }

  /** Shows the adapters whose name, task, methods or labels contain every word of the search. */
  _search() {
    const words = byId("search").value.toLowerCase().split(/\s+/);
    for (const { adapter, item } of this._rows.values()) {
      const { name, task, methods = [], labels = [] } = adapter;
      const said = [name, task, ...methods, ...labels].join(" ").toLowerCase();
      item.hidden = !words.every((word) => said.includes(word));
    }
  }

  /** Chooses all adapters that the search shows, or none of them. */
  _choose(isChosen) {
    for (const { item, box } of this._rows.values()) {
      if (!item.hidden) box.checked = isChosen;
    }
    this._tell();
    this._changed();
  }

  _tell() {
    const count = this._rows.size;
    const chosen = `${this.chosen.length.toLocaleString("en")} of ${count.toLocaleString("en")} chosen`;
    tell(byId("chosen"), count ? chosen : "No adapters yet. Put a bundle into the served folder.");
  }
}

/** Shows the details of an adapter under its name. */
function describe(item, adapter) {
  const isOpen = item.querySelector("details")?.open ?? false;
  const { task, labels = [], methods = [], metrics = {}, state, reason } = adapter;
  const what = [task, labels.length ? counted(labels.length, "label") : ""].filter(Boolean).join(", ");
  const report = make("a", { target: "_blank", rel: "opener" }, "Report");
  report.href = `page/report.html?${new URLSearchParams({ adapter: adapter.name })}`;
  const shown = labels.slice(0, MOST_LABELS).join(", ");
  const facts = [
    ["methods", methods.join(", ")],
    ["labels", labels.length > MOST_LABELS ? `${shown} and ${labels.length - MOST_LABELS} more` : shown],
    ...Object.entries(metrics).map(([name, value]) => [name.replaceAll("_", " "), number(value)]),
  ].filter(([, value]) => value !== "");
  const details = make(
    "details",
    { open: isOpen },
    make("summary", {}, what || "not loaded yet"),
    make("dl", {}, ...facts.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])),
    state !== "FAILED" ? make("p", {}, report) : null,
  );
  item.lastChild.replaceWith(
    make(
      "div",
      {},
      make("span", { className: `state ${state.toLowerCase()}` }, state.toLowerCase()),
      details,
      reason ? make("p", { className: "problem" }, reason) : null,
    ),
  );
}

const number = (value) => (Number.isInteger(value) ? value.toLocaleString("en") : typeof value === "number" ? fixed(value) : String(value));
