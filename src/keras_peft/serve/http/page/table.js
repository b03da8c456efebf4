/**
 * Reads tables in CSV, TSV and JSON Lines, and writes CSV.
 *
 * The rules are those of the Python readers: the separator is detected, and a quote in TSV is a character unless
 * all quotes enclose values.
 */

const SEPARATORS = [",", ";", "\t", "|"];
const NAMES = { ",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar" };

/**
 * @typedef {Record<string, unknown>} Row The values by column.
 */

/**
 * Reads a table.
 * @param {string} content
 * @param {string} name The name of its file, whose extension determines the format.
 * @returns {{columns: string[], rows: Row[]}}
 * @throws {Error} If the content is not a valid table; the message says what to do.
 */
export function readTable(content, name) {
  const ending = name.slice(name.lastIndexOf(".") + 1).toLowerCase();
  const readers = { csv: readCsv, tsv: readTsv, jsonl: readLines, ndjson: readLines };
  if (!(ending in readers)) {
    throw new Error(`${name} is not a .csv, .tsv or .jsonl file; save the table as one of these.`);
  }
  const table = readers[ending](content);
  if (!table.rows.length) throw new Error(`${name} has no rows; expected one text per row.`);
  return table;
}

/**
 * Writes rows as CSV.
 * @param {string[]} columns
 * @param {Row[]} rows
 * @returns {string}
 */
export function writeTable(columns, rows) {
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))];
  return lines.map((values) => values.map(cell).join(",") + "\r\n").join("");
}

function cell(value) {
  const text = typeof value === "string" ? value : value === null || value === undefined ? "" : JSON.stringify(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function readLines(content) {
  const columns = new Set();
  const rows = [];
  for (const [at, line] of content.split("\n").entries()) {
    if (!line.trim()) continue;
    let row;
    try {
      row = JSON.parse(line);
    } catch {
      row = null;
    }
    if (row === null || typeof row !== "object" || Array.isArray(row)) {
      throw new Error(`Line ${at + 1} is not a JSON object; expected one object per line.`);
    }
    Object.keys(row).forEach((column) => columns.add(column));
    rows.push(row);
  }
  return { columns: [...columns], rows };
}

function readCsv(content) {
  const named = /^sep=(.)\r?\n?/i.exec(content);
  if (named) return readSeparated(content.slice(named[0].length), named[1]);
  const [header] = content.split(/\r\n?|\n/, 1);
  const lines = content.split(/\r\n?|\n/, 50).filter((line) => line).slice(1);
  // The separator that splits the header, and as many rows as possible into as many values.
  const rated = SEPARATORS.map((separator) => {
    const width = header.split(separator).length;
    const same = lines.filter((line) => [...records_of(line, separator, true)][0]?.length === width).length;
    return { separator, rate: width < 2 ? -1 : same };
  });
  return readSeparated(content, rated.reduce((best, one) => (one.rate > best.rate ? one : best)).separator);
}

function readTsv(content) {
  const lines = content.split(/\r\n?|\n/).filter((line) => line);
  const width = lines.length ? lines[0].split("\t").length : 0;
  const closed = lines.every((line) => !line.includes('"') || isClosed(line, width));
  if (closed || !lines.every((line) => line.split("\t").length === width)) return readSeparated(content, "\t");
  return asTable(lines.map((line) => line.split("\t")), "\t");
}

function isClosed(line, width) {
  try {
    return [...records_of(line, "\t")].every((record) => record.length === width);
  } catch {
    return false;
  }
}

function readSeparated(content, separator) {
  return asTable([...records_of(content, separator)], separator);
}

function asTable([columns, ...records], separator) {
  if (!columns) return { columns: [], rows: [] };
  if (new Set(columns).size < columns.length) throw new Error("Two columns have the same name; rename one of them.");
  const rows = records.map((values, at) => {
    if (values.length !== columns.length) {
      throw new Error(
        `Row ${at + 1} has ${values.length} values; expected ${columns.length}, as in the header. The separator is ` +
          `${NAMES[separator] ?? separator}; quote values that contain it.`,
      );
    }
    return Object.fromEntries(columns.map((column, place) => [column, values[place]]));
  });
  return { columns, rows };
}

/** Yields the records of a table with quotes as in RFC 4180, without empty lines. */
function* records_of(content, separator, isLenient = false) {
  const sign = separator === "|" ? "\\|" : separator;
  const value = new RegExp(`"((?:[^"]|"")*)"|([^"${sign}\\r\\n][^${sign}\\r\\n]*)?`, "y");
  let record = [];
  for (let at = 0; at < content.length || record.length; ) {
    value.lastIndex = at;
    const [whole, quoted, plain = ""] = value.exec(content) ?? [""];
    record.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    at += whole.length;
    const next = content[at];
    if (next === separator) {
      at += 1;
      continue;
    }
    if (next !== undefined && next !== "\r" && next !== "\n") {
      if (isLenient) return;
      throw new Error(`A quoted value is not terminated correctly in line ${content.slice(0, at).split("\n").length}; fix its quotes.`);
    }
    if (record.length > 1 || record[0] !== "" || quoted !== undefined) yield record;
    record = [];
    at += next === "\r" && content[at + 1] === "\n" ? 2 : 1;
  }
}
