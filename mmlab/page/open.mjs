/** Reads files dropped on the page: logs of keys, or data of other replays. */

import { numbersOf } from "./data.mjs";
import { grouped, say, shortened } from "./texts.mjs";

export const MOST_BYTES = 50_000_000;
export const MOST_KEYS = 100_000;
const PALETTE = [
  "#0072B2",
  "#E69F00",
  "#009E73",
  "#CC79A7",
  "#D55E00",
  "#56B4E9",
  "#882255",
  "#999933",
  "#332288",
];

/** An error that the user can fix; its message is a sentence. */
export class Unreadable extends Error {}

/**
 * Return the data of a page from the text of a file.
 *
 * @param {string} name of the file
 * @param {string} mapping optional, one line per model, such as `CONFIG_2: KEY_2, KEY_3`
 */
export function contentOf(name, text, mapping = "") {
  const trimmed = text.replace(/^\uFEFF/, "").trim();
  const inside = trimmed.match(/<script type="application\/json" id="data">([^<]*)<\/script>/);
  if (inside) return checked(parsed(inside[1], name), name);
  if (/^\{.*"managers":/s.test(trimmed.slice(0, 1000))) return checked(parsed(trimmed, name), name);
  const keys = keysOf(name, trimmed);
  if (!keys.length) throw new Unreadable(say("open_empty", { name }));
  return contentOfKeys(keys, modelsOf(mapping));
}

/** Check that the data of a replay is complete, and return it. */
function checked(content, name) {
  const isWhole = (manager) => {
    const models = numbersOf(manager.model);
    const before = numbersOf(manager.before.model);
    const known = (model) => model >= 0 && model < manager.models.length;
    const columns = [
      manager.elements,
      manager.set,
      ...(manager.loads ? [manager.begin, manager.lasted] : []),
    ];
    return (
      manager.models.every((model) =>
        typeof model.name === "string" && /^#[0-9a-f]{6}$/i.test(model.colour) &&
        Array.isArray(model.keys)
      ) &&
      models.length === manager.length &&
      Number.isInteger(manager.first) &&
      models.every(known) &&
      before.every(known) &&
      new Set(before).size === before.length &&
      numbersOf(manager.before.last).length === before.length &&
      columns.every((column) => numbersOf(column).length === manager.length)
    );
  };
  try {
    if (content.format === 1 && content.managers.every(isWhole)) return content;
  } catch {
    // The content does not have the structure of a replay.
  }
  throw new Unreadable(say("open_other", { name }));
}

function parsed(text, name) {
  try {
    return JSON.parse(text);
  } catch (problem) {
    throw new Unreadable(say("open_bad", { name, why: problem.message }));
  }
}

function keysOf(name, text) {
  const lines = text.split(/\r\n|\n|\r/).filter((line) => line.trim());
  if (!lines.length) return [];
  if (
    /^[{["]/.test(lines[0]) && (/\.(jsonl|ndjson|json)$/i.test(name) || lines[0].startsWith("{"))
  ) {
    if (lines[0].startsWith("[")) return parsed(text, name).map(keyOf);
    return lines.map((line) => keyOf(parsed(line, name)));
  }
  const first = fieldsOf(lines[0]);
  const column = first.findIndex((field) => field.trim().toLowerCase() === "key");
  if (column >= 0) return lines.slice(1).map((line) => fieldsOf(line)[column] ?? "");
  if (first.length > 1) {
    throw new Unreadable(say("open_column", { name, columns: shortened(first.join(", "), 80) }));
  }
  return lines.map((line) => fieldsOf(line)[0]);
}

function keyOf(value) {
  if (value !== null && typeof value === "object") return String(value.key ?? "");
  return String(value);
}

/** Split a line of CSV into fields. */
function fieldsOf(line) {
  const fields = [];
  let field = "";
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    const letter = line[i];
    if (quoted && letter === '"' && line[i + 1] === '"') {
      field += '"';
      i++;
    } else if (letter === '"' && (quoted || field === "")) quoted = !quoted;
    else if (letter === "," && !quoted) {
      fields.push(field);
      field = "";
    } else field += letter;
  }
  return [...fields, field];
}

function modelsOf(mapping) {
  const models = new Map();
  for (const line of mapping.split("\n")) {
    const [model, keys] = [
      line.slice(0, line.lastIndexOf(":")),
      line.slice(line.lastIndexOf(":") + 1),
    ];
    if (!line.trim() || !model.trim()) continue;
    for (const key of keys.split(",")) if (key.trim()) models.set(key.trim(), model.trim());
  }
  return models;
}

/** Return the data of a log of keys; without a mapping every key is a separate model. */
function contentOfKeys(keys, models) {
  const shown = keys.slice(0, MOST_KEYS);
  const names = new Map();
  const sets = new Map();
  const model = [];
  const set = [];
  const byName = (map, name) => map.get(name) ?? (map.set(name, map.size), map.size - 1);
  shown.forEach((key, i) => {
    if (models.size && !models.has(key)) {
      throw new Unreadable(say("open_unmapped", { n: i + 1, key: shortened(key, 40) }));
    }
    model.push(byName(names, models.get(key) ?? key));
    set.push(byName(sets, key));
  });
  const keysOfModel = [...names.keys()].map((name) =>
    models.size ? [...models].filter(([, of]) => of === name).map(([key]) => key) : [name]
  );
  return {
    format: 1,
    kind: "keys",
    managers_in_all: 1,
    managers: [
      {
        step: "",
        process: "",
        models: [...names.keys()].map((name, i) => ({
          name,
          keys: keysOfModel[i],
          bytes: null,
          colour: PALETTE[i % PALETTE.length],
        })),
        total: keys.length,
        first: 1,
        length: shown.length,
        before: { model: "", last: "" },
        model: columnOf(model),
        elements: columnOf(shown.map(() => 1)),
        sets: [...sets.keys()].map((key) => [key]),
        set: columnOf(set.map((each, i) => each - model[i])),
      },
    ],
  };
}

/** Encode numbers as `columns.py` does. */
function columnOf(numbers) {
  const bytes = [];
  for (const number of numbers) {
    let left = (number << 1) ^ (number >> 31);
    for (; left > 127; left >>>= 7) bytes.push((left & 127) | 128);
    bytes.push(left);
  }
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.slice(i, i + 8192));
  }
  return btoa(text);
}

/** Open files that are dropped on the page or selected. */
export function listenForFiles(panel, show) {
  const { area, input, mapping, problem } = panel;
  const read = async (file) => {
    problem.textContent = "";
    try {
      if (file.size > MOST_BYTES) {
        throw new Unreadable(
          say("open_large", { name: file.name, n: file.size, most: grouped(MOST_BYTES) }),
        );
      }
      show(contentOf(file.name, await file.text(), mapping.value));
    } catch (error) {
      if (!(error instanceof Unreadable)) {
        problem.textContent = say("open_bad", { name: file.name, why: error.message });
      } else problem.textContent = error.message;
    }
  };
  area.hidden = false;
  input.addEventListener("change", () => {
    if (input.files[0]) read(input.files[0]);
    input.value = ""; // so that the same file can be selected again
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
  });
}
