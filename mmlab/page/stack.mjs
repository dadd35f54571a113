/** Draws the stack: a row per model, the line of the limit, and the models that cross the line. */

import { $, element, listOf, paint, svg, write } from "./view.mjs";
import { grouped, inBytes, named, say, shortened } from "./texts.mjs";

const TALL = 4.3; // heights in rem
const SHORT = 1.7;
const GAP = 0.55;
const LINE = 3.1;
const FOLD = 1.6;
const MOST_MOVING = 30; // with more models, rows are reused for other models and do not slide
const WITH_LINES = 2.6; // rows from this height on have two lines

/** Draw the stack after `view.step`. */
export function drawStack(view) {
  const { shown, manager, step, quiz } = view;
  const place = $("stack");
  const state = shown.stack(step);
  const hidden = quiz.isAsking;
  if (hidden) sortByLetter(state, quiz);
  const { rem } = view;
  const space = view.stackSpace();
  const entries = entriesOf(view, state, space / rem);
  const used = new Set();
  const isStill = manager.accesses.different > MOST_MOVING;
  place.classList.toggle("still", isStill);
  const spare = isStill ? spareRows(place, entries) : [];
  let y = 0;
  for (const entry of entries) {
    entry.y = y;
    if (entry.kind === "line") drawLine(view, state, y);
    else if (entry.kind === "fold") drawFold(view, entry, y, used);
    else drawRow(view, entry, y, used, state, rem, spare);
    y += entry.height + (entry.kind === "line" ? 0 : entry.gap);
  }
  for (const row of [...place.children]) {
    if ((row.dataset.model ?? row.dataset.fold) !== undefined && !used.has(row)) row.remove();
  }
  $("line").hidden = !shown.hasLine || quiz.phase === "hit";
  $("arrows").style.visibility = hidden ? "hidden" : "";
  const most = (manager.accesses.different * (TALL + GAP) + LINE) * rem;
  place.style.height = `${Math.max(y, Math.min(space, most))}px`;
  place.classList.toggle("hidden-columns", hidden);
  $("stack-area").classList.toggle("asking", hidden);
  write($("most-recent"), say(hidden ? "quiz_hidden" : "most_recent"));
  drawRecordedLimit(view, entries, state, rem);
  if (!hidden) drawArrows(view, entries, y, rem);
}

function sortByLetter(state, quiz) {
  if (quiz.phase === "hit") {
    state.held = [...state.held, ...state.gone];
    state.gone = [];
  }
  state.held.sort((a, b) => a - b);
  state.gone.sort((a, b) => a - b);
}

/** Rows, folds and the line, from top to bottom, as high as the space allows. */
function entriesOf(view, state, tall) {
  const { shown, quiz, rem } = view;
  const rows = [...state.held, ...state.gone];
  const limit = state.held.length;
  const line = shown.hasLine && quiz.phase !== "hit" ? LINE : shown.fromEvents ? 1 : 0;
  const space = tall - line;
  const gap = (height) => (height < WITH_LINES ? GAP * 0.55 : GAP);
  let height = Math.min(TALL, space / Math.max(rows.length, 1) - GAP);
  if (height < WITH_LINES) {
    height = Math.min(space / Math.max(rows.length, 1) - GAP * 0.55, WITH_LINES - 0.01);
  }
  let kept = null;
  if (height < SHORT && !view.unfolded) {
    height = SHORT;
    kept = keptRows(rows.length, limit, Math.floor((space - 2 * FOLD) / (SHORT + GAP * 0.55)));
  }
  height = Math.max(height, SHORT);
  const entries = [];
  let folded = [];
  const fold = () => {
    if (folded.length) entries.push({ kind: "fold", models: folded, height: FOLD * rem, gap: 0 });
    folded = [];
  };
  rows.forEach((model, i) => {
    if (i === limit) {
      fold();
      entries.push({ kind: "line", height: line * rem });
    }
    if (kept && !kept.has(i)) return folded.push(model);
    fold();
    const held = i < limit;
    return entries.push({
      kind: "row",
      model,
      place: i + 1,
      held,
      height: height * rem,
      gap: gap(height) * rem,
    });
  });
  fold();
  if (limit === rows.length) entries.push({ kind: "line", height: line * rem });
  return entries;
}

/** Indices of the rows that stay in sight: at the top and at the line. */
function keptRows(count, limit, most) {
  const kept = new Set();
  const near = [0, limit - 1, limit, 1, limit - 2, limit + 1, 2, limit - 3, limit + 2];
  const order = [...near, ...Array(count).keys()];
  for (const i of order) if (i >= 0 && i < count && kept.size < Math.max(most, 4)) kept.add(i);
  return kept;
}

function rowOf(place, name, value, make) {
  for (const child of place.children) if (child[name] === value) return child;
  const row = make();
  row[name] = value;
  row.dataset[name] = value;
  if (row.parentElement !== place) place.append(row);
  return row;
}

function spareRows(place, entries) {
  const drawn = new Set(entries.map((entry) => String(entry.model)));
  return [...place.children].filter(({ dataset }) =>
    dataset.model !== undefined && !drawn.has(dataset.model)
  );
}

/** Take a free row, preferably at the same height, because then less of it changes. */
function takeFrom(spare, y) {
  const there = spare.findIndex((row) => row.y === y);
  return there < 0 ? spare.pop() : spare.splice(there, 1)[0];
}

function makeRow() {
  const bar = element(
    "div",
    { class: "bar" },
    element("span", { class: "letter", "aria-hidden": "true" }),
    element("span", { class: "name" }),
    element("span", { class: "details" }, element("span"), element("span")),
  );
  return element(
    "li",
    {},
    element("span", { class: "place", "aria-hidden": "true" }),
    bar,
    element("span", { class: "col last" }, element("b"), " ", element("small")),
    element("span", { class: "col again" }, element("b"), " ", element("small")),
    element("span", { class: "note" }),
  );
}

function move(row, y, height) {
  row.y = y;
  const transform = `translateY(${Math.round(y)}px)`;
  if (row.style.transform !== transform) row.style.transform = transform;
  const tall = `${Math.round(height)}px`;
  if (row.style.height !== tall) row.style.height = tall;
}

function drawRow(view, entry, y, used, state, rem, spare) {
  const { manager, looks, shown, step, quiz } = view;
  const row = rowOf($("stack"), "model", entry.model, () => takeFrom(spare, y) ?? makeRow());
  used.add(row);
  const look = looks[entry.model];
  const model = manager.models[entry.model];
  const [place, bar, last, again, note] = row.children;
  const unsure = quiz.phase === "hit" && quiz.isAsking;
  const isShort = entry.height < WITH_LINES * rem;
  row.className = `${isShort ? "short" : "tall"} ${
    unsure ? "unsure" : entry.held ? "held" : "gone"
  }`;
  paint(bar, look);
  write(place, quiz.isAsking ? "" : String(entry.place));
  write(bar.children[0], look.letter);
  const fits = isShort ? view.shortName : view.tallName;
  write(bar.children[1], shortened(look.name, fits));
  bar.classList.toggle("bare", model.bytes === null && !model.keys.length);
  const size = model.bytes === null ? "" : inBytes(model.bytes);
  const all = listOf(model.keys.map(named), 3);
  const isCut = isShort &&
    4.6 + 0.66 * look.name.length + 0.56 * (all.length + size.length) > view.bar;
  const keys = isCut ? "" : all;
  write(bar.children[2].children[0], keys);
  write(bar.children[2].children[1], size && keys ? `\u00a0· ${size}` : size);
  bar.title = [look.name, model.keys.map(named).join(", "), size].filter(Boolean).join("\n");
  bar.tabIndex = look.name.length > fits || isCut || model.keys.length > 3 ? 0 : -1;
  const lastUse = manager.accesses.lastUse(entry.model, step);
  const ago = step - lastUse;
  const isUsed = Number.isFinite(ago);
  const unit = isUsed
    ? say(view.isNarrow ? "unit_ago_short" : "unit_ago", { n: ago })
    : say("ago_before");
  write(last.children[0], !isUsed ? "" : ago ? grouped(ago) : say("now"));
  write(last.children[1], ago ? unit : "");
  const next = manager.accesses.nextUse(entry.model, step);
  drawAgain(again, next && next - step, manager, view.isNarrow);
  const toGo = !quiz.on && shown.hasLine && entry.held && entry.place === state.held.length &&
    state.held.length === shown.limit && step < manager.length;
  row.classList.toggle("to-go", toGo);
  const leaving = shown.recorded && !entry.held && manager.wasRun &&
    manager.isLeaving(entry.model, step);
  write(note, quiz.isAsking ? "" : toGo ? say("next_to_go") : leaving ? say("not_freed") : "");
  move(row, y, entry.height);
}

function drawAgain(place, inSteps, manager, isNarrow) {
  const [number, unit] = place.children;
  place.classList.toggle("in", inSteps > 1);
  place.dataset.before = inSteps > 1 ? `${say("col_in")} ` : "";
  if (!inSteps) {
    write(number, say(manager.isWindow ? "col_unknown" : "col_never"));
    write(unit, "");
  } else if (inSteps === 1) {
    write(number, say("col_next"));
    write(unit, isNarrow ? "" : say("unit_in", { n: 1 }));
  } else {
    write(number, grouped(inSteps));
    write(unit, isNarrow ? "" : say("unit_in", { n: inSteps }));
  }
}

function drawFold(view, entry, y, used) {
  const where = entry.models.length && view.shown.stack(view.step).held.includes(entry.models[0]);
  const row = rowOf(
    $("stack"),
    "fold",
    where ? `held${entry.models.length}` : "gone",
    () =>
      element(
        "li",
        { class: "fold" },
        element("button", {
          type: "button",
          title: say("more_label"),
          onclick: () => view.unfold(),
        }),
      ),
  );
  used.add(row);
  row.className = "fold";
  write(row.firstChild, say("more", { n: entry.models.length }));
  move(row, y, entry.height);
}

function drawLine(view, state, y) {
  const { shown, manager } = view;
  const line = $("line");
  line.style.transform = `translateY(${Math.round(y)}px)`;
  line.classList.toggle("simulated", !shown.recorded);
  const kind = shown.recorded ? "recorded" : "simulated";
  const name = shown.limit === null ? `line_none_${kind}` : `line_${kind}`;
  write($("pill-text"), say(name, { n: shown.limit ?? 0 }));
  const pill = $("pill");
  pill.setAttribute("aria-valuemax", String(manager.accesses.different));
  pill.setAttribute(
    "aria-valuenow",
    String(Math.min(shown.limit ?? Infinity, manager.accesses.different)),
  );
  pill.setAttribute("aria-valuetext", say(name, { n: shown.limit ?? 0 }));
  const n = state.held.length;
  const bytes = manager.bytesOf(state.held);
  const held = shown.limit === null
    ? say("held_all", { n })
    : say("held_of", { n, limit: shown.limit });
  write($("above"), `: ${held}${bytes === null || !n ? "" : `, ${inBytes(bytes)}`}`);
  write($("below"), `: ${state.gone.length}`);
}

/** Draw a hairline at the recorded limit while another limit is shown. */
function drawRecordedLimit(view, entries, state, rem) {
  const { shown, manager } = view;
  const hair = $("recorded-line");
  const at = manager.followsLru && !shown.recorded && !view.quiz.isAsking ? manager.limit : null;
  const rows = entries.filter((entry) => entry.kind === "row");
  const above = rows.findLast((entry) => entry.place <= at);
  hair.hidden = at === null || at === shown.limit || !above || above.place !== at ||
    at >= state.held.length + state.gone.length;
  if (hair.hidden) return;
  hair.style.transform = `translateY(${Math.round(above.y + above.height + above.gap / 2)}px)`;
  hair.classList.toggle("tight", above.gap < 0.4 * rem);
  write(hair.firstElementChild, say("recorded_limit", { n: at }));
}

/** Draw arrows across the line: upwards for loads, downwards for evictions. */
function drawArrows(view, entries, height, rem) {
  const { shown, manager, step } = view;
  const arrows = $("arrows");
  const wide = view.arrowsWidth;
  const middle = (entry) => entry.y + entry.height / 2;
  const row = (test) => entries.find((entry) => entry.kind === "row" && test(entry));
  const parts = [];
  const labels = [];
  if (step && entries.length) {
    const model = manager.modelOf(step);
    const top = row((entry) => entry.model === model);
    const miss = shown.isMiss(step);
    const depth = manager.accesses.distances[step - 1];
    const known = depth > 1 ? row((entry) => entry.place === depth) ?? entries.at(-1) : null;
    const from = known ?? (depth === 0 && entries.length > 2 ? { y: height - 4, height: 0 } : null);
    if (top && !shown.loadFailed(step)) {
      labels.push([say(miss ? "load" : "hit"), middle(top)]);
      if (from && (known || miss) && middle(from) - middle(top) > 4) {
        parts.push(
          ...arrow(
            wide - 2.6 * rem,
            middle(from),
            middle(top),
            wide - 1.9 * rem,
            miss ? "up" : "hit",
          ),
        );
      }
    }
    for (const out of shown.evicted(step)) {
      const to = row((entry) => entry.model === out);
      if (!to) continue;
      labels.push([say("evict"), middle(to)]);
      const before = row((entry) => entry.place === to.place - 1);
      if (shown.hasLine && before) {
        parts.push(
          ...arrow(wide - 1.7 * rem, middle(before), middle(to), wide - 1.1 * rem, "down"),
        );
      }
    }
  }
  const drawing = svg(
    "svg",
    { width: wide, height: Math.max(height, 1), "aria-hidden": "true" },
    ...parts,
  );
  arrows.replaceChildren(
    drawing,
    ...labels.map(([text, y]) => {
      const label = element("span", {}, text);
      label.style.top = `${y}px`;
      return label;
    }),
  );
}

function arrow(x, from, to, end, kind) {
  return [
    svg("circle", { cx: x, cy: from, r: 3, class: kind }),
    svg("path", {
      d: `M${x} ${from}V${to + (to < from ? 6 : -6)}Q${x} ${to} ${x + 6} ${to}H${end + 4}`,
      class: kind,
    }),
    svg("path", { d: `M${end} ${to - 5}L${end + 5} ${to}L${end} ${to + 5}`, class: kind }),
  ];
}
