/** Draws everything except the stack and the timeline: strip, sentence, counts, chart, list. */

import { grouped, inBytes, named, pieces, say, shortened } from "./texts.mjs";

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const $ = (id) => document.getElementById(id);

/** Write text only if it has changed: layout is the main cost of a step. */
export function write(place, text) {
  const node = place.firstChild;
  if (node?.nodeType === Node.TEXT_NODE && !node.nextSibling) {
    if (node.data !== text) node.data = text;
  } else if (place.textContent !== text) place.textContent = text;
}

// Models

const TEXTURES = ["stripes", "dots", "back"];

/** Distinguish models by a letter, a colour, and a texture if the colour repeats. */
export function looksOf(models) {
  const times = new Map();
  return models.map((model, i) => {
    const before = times.get(model.colour) ?? 0;
    times.set(model.colour, before + 1);
    return {
      rule: `look-${i}`,
      letter: letterOf(i),
      name: named(model.name),
      colour: model.colour,
      ink: inkOn(model.colour),
      dark: mixed(model.colour, "#000000", 0.35),
      light: mixed(model.colour, "#ffffff", 0.45),
      texture: before ? TEXTURES[(before - 1) % TEXTURES.length] : "",
    };
  });
}

/** @example letterOf(27) === "AB" */
function letterOf(i) {
  const last = String.fromCharCode(65 + (i % 26));
  return i < 26 ? last : letterOf(Math.floor(i / 26) - 1) + last;
}

function channels(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}

function luminance(colour) {
  const [r, g, b] = channels(colour).map((c) =>
    c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4
  );
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function inkOn(colour) {
  return luminance(colour) < 0.18 ? "#ffffff" : "#0b0d12";
}

function mixed(colour, other, share) {
  const to = channels(other);
  return `#${
    channels(colour)
      .map((c, i) => Math.round(c + (to[i] - c) * share).toString(16).padStart(2, "0"))
      .join("")
  }`;
}

/** Give each look a CSS rule: elements that share rules are styled in half the time. */
export function styleLooks(looks) {
  const { sheet } = $("looks");
  while (sheet.cssRules.length) sheet.deleteRule(0);
  looks.forEach((look, i) => {
    sheet.insertRule(`.${look.rule} {}`, i);
    const { style } = sheet.cssRules[i];
    style.setProperty("--fill", look.colour);
    style.setProperty("--on", look.ink);
    style.setProperty("--dark", look.dark);
    style.setProperty("--light", look.light);
  });
}

export function paint(place, look) {
  if (place.look === look) return; // setting a style again would recompute styles
  if (place.look) place.classList.remove(place.look.rule);
  place.look = look;
  place.classList.add(look.rule);
  if ((place.dataset.texture ?? "") !== look.texture) place.dataset.texture = look.texture;
}

/** Create a small square with the letter of a model, and its name. */
export function chip(look, withName = true) {
  const square = element("span", { class: "chip", "aria-hidden": "true" }, look.letter);
  paint(square, look);
  if (!withName) return square;
  const name = element("span", { title: look.name }, shortened(look.name, 32));
  return element("span", { class: "model" }, square, " ", name);
}

// The strip of accesses

export function drawStrip(view) {
  const { shown, manager, step, quiz } = view;
  const strip = $("strip");
  const wide = view.rem * 3.7;
  const fit = Math.max(5, Math.floor(view.width / wide));
  strip.classList.toggle("few", manager.length < fit);
  strip.classList.toggle("one-key", !manager.hasBatchesOfManyKeys);
  const first = Math.max(1, Math.min(step - Math.floor(fit * 0.4), manager.length - fit + 1));
  while (strip.children.length > fit) strip.lastChild.remove();
  while (strip.children.length < fit) strip.append(stripCell(view));
  const moved = first - strip.firstChild.dataset.step;
  if (Math.abs(moved) < fit) {
    for (let i = 0; i < moved; i++) strip.append(strip.firstChild);
    for (let i = 0; i < -moved; i++) strip.prepend(strip.lastChild);
  }
  const gone = quiz.isAsking ? [] : shown.evicted(step);
  const again = new Set(gone.map((model) => manager.accesses.nextUse(model, step)));
  for (let i = 0; i < fit; i++) drawCell(strip.children[i], first + i, view, again);
}

function stripCell(view) {
  const button = element("button", { type: "button", tabIndex: -1 });
  const cell = element("li", {}, element("small"), button, element("span"), element("span"));
  button.addEventListener("click", () => view.go(Number(cell.dataset.step)));
  return cell;
}

function drawCell(cell, at, view, again) {
  const { manager, shown, step, quiz } = view;
  const [mark, button] = cell.children;
  cell.hidden = at > manager.length;
  if (cell.hidden) return;
  const miss = at <= step && shown.isMiss(at);
  let word = "";
  if (at <= step && (shown.loadFailed(at) || shown.hasFailed(at))) word = say("failed");
  else if (miss) word = say("miss");
  else if (at === step) word = say("hit");
  else if (again.has(at)) word = say("again");
  else if (at === step + 1) word = say("next");
  write(mark, word);
  const kinds = {
    future: at > step,
    miss,
    current: at === step,
    asked: quiz.isAsking && at === step + 1,
  };
  for (const [kind, holds] of Object.entries(kinds)) cell.classList.toggle(kind, holds);
  if (at === step) button.setAttribute("aria-current", "step");
  else button.removeAttribute("aria-current");
  if (cell.dataset.step !== String(at)) fillCell(cell, at, view);
}

/** Fill a cell with what does not depend on the shown step. */
function fillCell(cell, at, { manager, looks }) {
  const [, button, key, more] = cell.children;
  const look = looks[manager.modelOf(at)];
  const keys = manager.keysOf(at).map(named);
  cell.dataset.step = at;
  write(button, look.letter);
  paint(button, look);
  const values = { n: manager.numberOf(at), model: look.name, keys: keys.join(", ") };
  button.setAttribute("aria-label", say("access_label", values));
  button.title = `${look.name}\n${keys.join(", ")}`;
  write(key, shortened(keys[0] ?? "", 6));
  write(more, keys.length > 2 ? `+${keys.length - 1}` : shortened(keys[1] ?? "", 6));
}

// The sentence

export function drawSentence(view) {
  const { manager, step, quiz } = view;
  const place = $("sentence");
  if (quiz.isAsking) return quiz.draw();
  const keys = step ? manager.keysOf(step).map(named) : [];
  const about = [];
  if (step) {
    about.push(say("about_access", { n: manager.numberOf(step), total: manager.total }));
    if (keys.length) about.push(listOf(keys, 4));
    if (manager.elements[step - 1]) about.push(say("elements", { n: manager.elements[step - 1] }));
  }
  const { headline, lines } = explained(view);
  if (quiz.on) {
    about.unshift(quiz.about(step));
    about.splice(1, 1);
    if (quiz.verdict) headline.unshift(`${say(quiz.verdict)} `);
    lines.push([say(step < manager.length ? "quiz_go_on" : "quiz_over")]);
  }
  place.replaceChildren(
    element("p", { class: "about" }, about.join(" · ")),
    element("h2", {}, ...headline),
    ...lines.map((line) => element("p", {}, ...line)),
  );
  return place.textContent;
}

export function listOf(names, most) {
  const shown = names.slice(0, most).map((name) => shortened(name, 24));
  if (names.length > most) shown.push(`+${names.length - most}`);
  return shown.join(", ");
}

/** Explain in words what a step did and why. */
export function explained(view) {
  const { manager, shown, looks, step } = view;
  const { accesses } = manager;
  if (!manager.length) return { headline: [say("empty")], lines: [[say("empty_why")]] };
  if (!step) {
    const begin = manager.first > 1 ? say("begin_window", { n: manager.first - 1 }) : say("begin");
    return { headline: [begin], lines: [[say("begin_why")]] };
  }
  const model = manager.modelOf(step);
  const it = () => chip(looks[model]);
  const lines = [];
  let headline;
  const evicted = shown.evicted(step);
  if (shown.loadFailed(step)) {
    headline = pieces("sentence_failed", { model: it() });
    lines.push([say("load_error", { error: named(manager.errors[step] ?? "") })]);
  } else if (!shown.isMiss(step)) {
    headline = pieces("sentence_hit", { model: it() });
    const before = accesses.lastUse(model, step - 1);
    if (before === -Infinity) {
      lines.push([say(manager.waiting.includes(model) ? "why_already" : "why_unseen")]);
    } else lines.push([step - before === 1 ? say("why_top") : say("why_up", { n: step - before })]);
  } else if (!evicted.length) {
    headline = pieces("sentence_load", { model: it() });
    lines.push([roomFor(view)]);
  } else {
    const out = element("span", {}, ...evicted.map((each) => chip(looks[each])));
    headline = pieces("sentence_evict", { model: it(), out });
    lines.push(...whyEvicted(view, evicted[0]));
  }
  if (shown.hasFailed(step) && !shown.loadFailed(step)) {
    lines.push([say("error", { error: shortened(named(manager.errors[step]), 160) })]);
  }
  return { headline, lines };
}

function roomFor({ manager, shown, step }) {
  if (shown.fromEvents) return say("why_room");
  if (shown.limit === null) return say("why_unlimited");
  const held = manager.accesses.held(step, shown.limit);
  return say("why_free", { held, limit: shown.limit });
}

function whyEvicted({ manager, shown, looks, step }, out) {
  const { accesses } = manager;
  const last = accesses.lastUse(out, step);
  const next = accesses.nextUse(out, step);
  const before = shown.stack(step - 1).held;
  let again = next ? "needed_in" : manager.isWindow ? "needed_unknown" : "needed_never";
  if (next === step + 1) again = "needed_next";
  const older = before.at(-1);
  const values = {
    out: shortened(looks[out].name, 40),
    ago: last === -Infinity ? say("ago_before") : say("ago", { n: step - last }),
    again: say(again, { n: next - step }),
    older: shortened(looks[older ?? out].name, 40),
  };
  const isLru = older === undefined || older === out;
  const lines = [pieces(isLru ? "why_lru" : "why_not_lru", values)];
  const others = before.filter((other) => other !== manager.modelOf(step));
  const best = accesses.neededLast(others, step);
  const bestNext = best < 0 ? 0 : accesses.nextUse(best, step);
  if (shown.limit === 1 && !shown.fromEvents) lines.push([say("best_one")]);
  else if (best < 0 || best === out || bestNext === next) lines.push([say("best_same")]);
  else {
    const when = bestNext ? say("best_in", { n: bestNext - step }) : say("best_never");
    lines.push(pieces("best", { model: chip(looks[best]), when }));
  }
  return lines;
}

// Counts

export function drawCounts(view) {
  const { manager, shown, step } = view;
  const loads = shown.loads(step);
  const misses = shown.misses(step);
  const { held } = shown.stack(step);
  const bytes = manager.bytesOf(held);
  const of = shown.limit === null || shown.fromEvents
    ? ""
    : say("held_of", { n: "", limit: shown.limit }).trim();
  const most = of ? shown.limit : held.length;
  const recorded = !shown.recorded && manager.wasRun
    ? say("was_recorded", { n: manager.loadsUntil[step] })
    : "";
  const rows = [
    [grouped(loads), recorded, say("loads", { n: loads })],
    [grouped(step - misses), "", say("hits", { n: step - misses })],
    [grouped(shown.reloads(step)), "", say("reloads", { n: shown.reloads(step) })],
    [grouped(shown.evictions(step)), "", say("evictions", { n: shown.evictions(step) })],
    [step ? `${Math.round((100 * misses) / step)} %` : "–", "", say("share")],
    [
      grouped(held.length),
      of,
      bytes === null
        ? say("models", { n: most })
        : say("models_bytes", { n: most, bytes: inBytes(bytes) }),
    ],
  ];
  if (shown.recorded && Object.keys(manager.errors).length) {
    rows.push([grouped(shown.failures(step)), "", say("failures", { n: shown.failures(step) })]);
  }
  const list = $("counts");
  while (list.children.length > rows.length) list.lastChild.remove();
  while (list.children.length < rows.length) {
    list.append(
      element("div", {}, element("dt"), element("dd", {}, element("b"), " ", element("small"))),
    );
  }
  rows.forEach(([value, aside, label], i) => {
    const [term, count] = list.children[i].children;
    write(term, label);
    write(count.children[0], value);
    write(count.children[1], aside);
  });
}

// Loads over limits

const CHART = { width: 320, height: 170, left: 26, right: 20, top: 26, bottom: 14 };
const MOST_POINTS = 32;

/** Limits in the chart: all, or evenly spaced ones and `needed`. */
export function chartLimits(models, ...needed) {
  const limits = new Set();
  for (let i = 0; i < MOST_POINTS; i++) {
    limits.add(Math.round(1 + (i * Math.max(models - 1, 0)) / (MOST_POINTS - 1)));
  }
  for (const limit of needed) if (limit >= 1 && limit <= models) limits.add(limit);
  return [...limits].sort((a, b) => a - b);
}

export function drawChart(view) {
  const { manager, shown } = view;
  const { accesses } = manager;
  const models = accesses.different;
  const chart = $("chart");
  chart.hidden = !models;
  if (!models) return;
  const current = shown.fromEvents ? null : Math.min(shown.limit ?? models, models);
  const key = [view.number, shown.limit, shown.recorded].join();
  if (chart.dataset.key === key) return;
  chart.dataset.key = key;
  const recorded = manager.followsLru ? Math.min(manager.limit ?? models, models) : null;
  const limits = chartLimits(models, current, recorded);
  const most = accesses.total(1);
  const least = accesses.total(models);
  const { width, height, left, right, top, bottom } = CHART;
  const x = (limit) => left + ((limit - 1) / Math.max(models - 1, 1)) * (width - left - right);
  const y = (loads) =>
    top + (1 - (loads - least * 0.6) / Math.max(most - least * 0.6, 1)) * (height - top - bottom);
  const path = (of) =>
    limits.map((limit, i) => `${i ? "L" : "M"}${x(limit)} ${y(of(limit))}`).join("");
  const lru = (limit) => accesses.total(limit);
  const best = (limit) => accesses.optimum(limit);
  const dense = limits.length > 14;
  const few = limits.length <= 7;
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    svg("path", { d: `M${left - 12} ${height - 4}H${width - right + 12}`, class: "axis" }),
    svg("path", { d: path(best), class: "best" }),
    ...limits.map((n) =>
      svg("path", { d: diamond(x(n), y(best(n)), dense ? 2.5 : 4), class: "best point" })
    ),
    svg("path", { d: path(lru), class: "lru" }),
    ...limits.map((n) =>
      svg("circle", {
        cx: x(n),
        cy: y(lru(n)),
        r: n === current ? 8 : dense ? 3.5 : 5,
        class: n === current ? "lru point now" : "lru point",
      })
    ),
    ...limits
      .filter((n) =>
        few || n === current ||
        ((n === 1 || n === models) && Math.abs(x(n) - x(current ?? -models)) > 60)
      )
      .map((n) => svg("text", { x: x(n), y: y(lru(n)) - 12 }, grouped(lru(n)))),
  );
  const buttons = limits.map((n) =>
    pointButton(view, n, n === current, n === recorded, [lru(n), best(n)], [x(n), y(lru(n))])
  );
  const spaced = labelled(limits, models, current);
  const labels = limits
    .filter((n) => spaced.has(n))
    .map((n) => {
      const label = element("span", { class: n === current ? "now" : "" }, grouped(n));
      label.style.left = `${(100 * x(n)) / width}%`;
      return label;
    });
  const below = recorded === null
    ? null
    : element("span", { class: "recorded" }, say("chart_recorded"));
  if (below) {
    below.style.left = `${(100 * Math.min(Math.max(x(recorded), 40), width - 40)) / width}%`;
  }
  chart.replaceChildren(
    element("h3", {}, say(manager.isWindow ? "chart_window" : "chart")),
    element("p", { class: "legend" }, mark("lru"), say("lru"), mark("best"), say("best_line")),
    element("div", { class: "plot" }, drawing, ...buttons),
    element("div", { class: "axis-labels", "aria-hidden": "true" }, ...labels, below),
  );
}

function labelled(limits, models, current) {
  const spaced = new Set();
  let last = -Infinity;
  const apart = models / (models > 99 ? 6 : models > 9 ? 7 : 12);
  for (const limit of limits) {
    const near = current !== null && limit !== current && Math.abs(limit - current) < apart * 0.9;
    if (limit === current || (limit - last >= apart && !near)) {
      spaced.add(limit);
      last = limit;
    }
  }
  return spaced;
}

function pointButton(view, limit, isNow, isRecorded, [loads, best], [x, y]) {
  const label = say("point", { limit, loads: say("loads_n", { n: loads }), best });
  const button = element("button", {
    type: "button",
    class: isRecorded ? "point-button recorded" : "point-button",
    title: label,
    onclick: () => view.setLimit(limit),
  });
  button.setAttribute("aria-label", label);
  button.setAttribute("aria-pressed", String(isNow));
  button.style.left = `${(100 * x) / CHART.width}%`;
  button.style.top = `${(100 * y) / CHART.height}%`;
  return button;
}

export function svg(tag, properties = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function diamond(x, y, r) {
  return `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`;
}

function mark(kind) {
  return svg(
    "svg",
    { viewBox: "0 0 32 12", class: "mark", "aria-hidden": "true" },
    svg("path", { d: "M0 6H32", class: kind }),
    kind === "lru"
      ? svg("circle", { cx: 16, cy: 6, r: 5, class: "lru point" })
      : svg("path", { d: diamond(16, 6, 4), class: "best point" }),
  );
}

// The list of steps

const LISTED = 400;

export function drawList(view) {
  const { step } = view;
  write($("steps-head"), say("steps", { n: step }));
  if (!$("steps").open) return;
  const last = step;
  const first = Math.max(1, last - LISTED + 1);
  const part = { a: view.manager.numberOf(first), b: view.manager.numberOf(last) };
  const note = first > 1 ? say("steps_part", part) : "";
  const items = [];
  for (let at = first; at <= last; at++) items.push(listItem(view, at));
  $("steps-note").textContent = note;
  $("steps-list").replaceChildren(...items);
}

function listItem(view, at) {
  const { manager, shown, looks } = view;
  const keys = manager.keysOf(at).map(named);
  const evicted = shown.evicted(at);
  let what = [say("list_hit")];
  if (shown.loadFailed(at)) what = [say("list_failed")];
  else if (evicted.length) {
    what = pieces("list_evict", {
      out: element("span", {}, ...evicted.map((model) => chip(looks[model], false))),
    });
  } else if (shown.isMiss(at)) what = [say("list_load")];
  const look = looks[manager.modelOf(at)];
  const label = say("access_label", {
    n: manager.numberOf(at),
    model: look.name,
    keys: keys.join(", "),
  });
  const names = evicted.map((model) => looks[model].name).join(", ");
  const said = shown.isMiss(at)
    ? (names ? say("list_evict", { out: names }) : say("list_load"))
    : say("list_hit");
  const button = element(
    "button",
    { type: "button", "aria-label": `${label}: ${said}`, onclick: () => view.go(at) },
    element("span", { class: "number" }, grouped(manager.numberOf(at))),
    element("span", { class: "keys", title: keys.join(", ") }, listOf(keys, 1).replace(", ", " ")),
    chip(look, false),
    element("span", {}, ...what),
  );
  return element("li", { class: at === view.step ? "current" : "" }, button);
}
