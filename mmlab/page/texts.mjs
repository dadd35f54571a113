/**
 * The table of all texts of the page; each language has its own table.
 *
 * `{name}` is replaced by a value. Of two forms separated by "|", the first is the singular.
 */

const ENGLISH = {
  title: "Why was this model evicted?",
  recorded: "Recorded:",
  simulated: "Simulated:",
  predicted: "Predicted:",
  about_recorded: "{where}, {accesses}, {limit}.",
  about_events: "{where}, {accesses}, {limit}, as the events say.",
  about_simulated: "the same {accesses} under {limit}.",
  about_predicted: "{accesses} of a key log under {limit}. Nothing was run.",
  window: "Accesses {a} to {b} of {total} are shown.",
  window_counts: "Counts and loads by limit begin with access {a}; the stack knows those before.",
  managers_left_out: "{n} of {total} model managers are shown.",
  back: "Back to recorded",
  not_lru: "The line is not drawn: this run was no plain LRU.",
  try_line: "Try a limit on the same accesses",
  limit_unknown: "The limit is not known.",
  limit_changed: "The limit changed from {a} to {b} while copies of the handler arrived.",
  loads_failed: "{n} load failed.|{n} loads failed.",
  in_memory_before:
    "{n} access found a model whose load is not in this trace.|{n} accesses found models whose loads are not in this trace.",
  already_there:
    "{n} model was in memory before the run.|{n} models were in memory before the run.",
  refreshed: "A model was replaced {n} time.|Models were replaced {n} times.",
  overlap: "Batches overlapped, so the order of uses is not the order of accesses.",
  dropped: "Some events could not be written.",
  other: "Loads and evictions do not follow least recent use access by access.",
  manager: "Model manager",
  quiz: "Quiz",
  projector: "Projector",
  dark: "Dark",
  light: "Light",
  full: "Full screen",
  accesses_strip: "Accesses: past, now and next",
  access_label: "Access {n}: {model}, {keys}",
  hit: "hit",
  miss: "miss",
  failed: "failed",
  next: "next",
  again: "again",
  first: "First",
  previous: "Back",
  play: "Play",
  pause: "Pause",
  forward: "Forward",
  last: "Last",
  next_miss: "Next miss",
  next_eviction: "Next eviction",
  time: "Access",
  of: "{n} / {total}",
  speed: "Speed",
  slow: "slow",
  normal: "normal",
  fast: "fast",
  fastest: "fastest",
  about_access: "Access {n} of {total}",
  elements: "{n} element|{n} elements",
  accesses: "{n} access|{n} accesses",
  limit: "limit {n}",
  no_limit: "no limit",
  unknown_limit: "limit unknown",
  begin: "Nothing has happened yet.",
  begin_window: "{n} access came before this window.|{n} accesses came before this window.",
  begin_why: "Press → for the first access, or space to play.",
  empty: "There is nothing to step through.",
  empty_why: "No batch reached a model in this run.",
  sentence_hit: "Hit: {model} is in memory.",
  sentence_load: "Miss: {model} is loaded.",
  sentence_evict: "Miss: {model} is loaded, {out} is evicted.",
  sentence_failed: "Failed: {model} could not be loaded.",
  why_top: "It was used just before and stays on top. Nothing is loaded.",
  why_up:
    "It was used {n} access ago and moves to the top. Nothing is loaded.|It was used {n} accesses ago and moves to the top. Nothing is loaded.",
  why_already: "It was in memory before the run. Nothing is loaded.",
  why_unseen: "Its load is not in this trace: it was in memory before the run.",
  why_free: "Memory is not full: {held} of {limit} models are held, and nothing is evicted.",
  why_unlimited: "There is no limit: nothing is evicted.",
  why_room: "Nothing is evicted.",
  why_lru: "{out} was used least recently, {ago}; {again}.",
  why_not_lru: "{out} was evicted, although {older} was used less recently; {again}.",
  ago_before: "before this run",
  ago: "{n} access ago|{n} accesses ago",
  needed_next: "it is needed again in the very next access",
  needed_in: "it is needed again in {n}",
  needed_never: "it is never needed again",
  needed_unknown: "it is not needed again in this window",
  best: "The best possible choice would have been {model} ({when}).",
  best_in: "not needed again for {n}",
  best_never: "never needed again",
  best_same: "No other choice would have been better.",
  best_one: "With limit 1 there is no choice.",
  error: "The batch ended with an error: {error}",
  load_error: "The error: {error}",
  most_recent: "most recently used on top",
  last_used: "last used",
  last_used_why: "LRU goes by this",
  needed: "needed again",
  needed_why: "LRU cannot see this",
  now: "now",
  unit_ago: "access ago|accesses ago",
  unit_ago_short: "ago",
  col_in: "in",
  unit_in: "access|accesses",
  col_next: "next",
  col_never: "never again",
  col_unknown: "not in window",
  next_to_go: "next to go",
  not_freed: "evicted, not freed yet",
  line_recorded: "limit {n} · recorded",
  line_simulated: "limit {n} · simulated",
  line_none_recorded: "no limit · recorded",
  line_none_simulated: "no limit · simulated",
  line_label: "Limit: the line between memory and what was evicted",
  recorded_limit: "recorded limit {n}",
  in_memory: "in memory",
  evicted: "evicted",
  held_of: "{n} of {limit}",
  held_all: "{n}",
  load: "load",
  evict: "evict",
  more: "{n} more",
  more_label: "Show all models",
  quiz_hidden: "by letter, until the answer",
  loads: "load|loads",
  hits: "hit|hits",
  reloads: "reload|reloads",
  evictions: "eviction|evictions",
  share: "share of misses",
  failures: "failure|failures",
  models: "model|models",
  models_bytes: "model, {bytes}|models, {bytes}",
  was_recorded: "recorded {n}",
  loads_aside: "Counts and loads by limit",
  chart: "Loads in the whole run, by limit",
  chart_window: "Loads in this window, by limit",
  lru: "LRU",
  best_line: "best possible",
  chart_recorded: "recorded",
  point: "Limit {limit}: {loads}, best possible {best}",
  loads_n: "{n} load|{n} loads",
  timeline_recorded: "The run as recorded",
  timeline_simulated: "The same accesses under {limit}",
  timeline_axis: "by access: a simulation has no seconds",
  timeline: "Timeline",
  legend_loading: "loading",
  legend_use: "in use",
  legend_held: "in memory",
  legend_leaving: "evicted, not freed",
  legend_evicted: "evicted",
  legend_failed: "failed",
  legend_out: "not in memory",
  zoom_in: "Zoom in",
  zoom_out: "Zoom out",
  zoom_all: "Whole run",
  tip_loading: "{model}: loading",
  tip_use: "{model}: in use",
  tip_held: "{model}: in memory",
  tip_leaving: "{model}: evicted, not freed",
  tip_out: "{model}: not in memory",
  tip_failed: "{model}: failed to load",
  from_to: "{a} to {b}",
  since: "since {a}",
  steps: "Steps so far ({n})",
  steps_part: "Steps {a} to {b} are listed.",
  list_hit: "hit",
  list_load: "miss, free slot",
  list_evict: "miss, evicts {out}",
  list_failed: "failed",
  quiz_about: "Quiz · access {n} of {total} · score {right} of {asked}",
  quiz_ask: "Next: {keys}, served by {model}. Hit or miss?",
  quiz_ask_plain: "Next: {model}. Hit or miss?",
  quiz_hit: "Hit",
  quiz_miss: "Miss",
  quiz_which_right: "Right: a miss, and memory is full. Which one goes?",
  quiz_which_wrong: "No, it is a miss, and memory is full. Which one goes?",
  quiz_right: "Right.",
  quiz_wrong: "No.",
  quiz_go_on: "Press → for the next question.",
  quiz_over: "That was the last access.",
  keys:
    "← → step · Home End · space play · n next miss · ↑ ↓ move the line · 1–9 set it · 0 no limit · r recorded · + − zoom · q quiz · p projector · t theme · f full screen",
  open: "Open a file",
  open_why:
    "Drop a key log here (CSV, JSON lines, or one key a line), or the data of another replay. Nothing leaves this machine.",
  open_mapping: "Keys of models (optional): a line per model, such as CONFIG_2: KEY_2, KEY_3",
  open_other: "{name} is no data of a replay that this page can show.",
  open_empty: "{name} holds no keys.",
  open_large: "{name} has {n} bytes; the page opens files of up to {most}.",
  open_bad: "{name} cannot be read: {why}",
  open_column: "{name} has no column named key: its columns are {columns}",
  open_unmapped: "Line {n} has the key {key}, which the mapping does not name.",
  nameless: "(empty)",
};

const table = { ...ENGLISH };

/** Use the texts of another language; missing texts stay English. */
export function useTexts(other) {
  Object.assign(table, other);
}

/** Return a text with its values. */
export function say(name, values = {}) {
  return pieces(name, values).join("");
}

/** Return a text as a list of strings and values, which can be elements. */
export function pieces(name, values = {}) {
  const forms = table[name].split("|");
  const form = forms.length > 1 && values.n !== 1 ? forms[1] : forms[0];
  return form.split(/(\{\w+\})/).map((part) => {
    if (!/^\{\w+\}$/.test(part)) return part;
    const value = values[part.slice(1, -1)];
    return typeof value === "number" ? grouped(value) : value;
  });
}

/** @example grouped(12345) === "12,345" */
export function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** @example inBytes(64100000) === "64 MB" */
export function inBytes(n) {
  if (n >= 1e9) return `${(n / 1e9).toFixed(2)} GB`;
  return n >= 1e6 ? `${grouped(Math.round(n / 1e6))} MB` : `${grouped(Math.round(n))} bytes`;
}

/** @example inSeconds(0.0123, 0.001) === "0.012 s" */
export function inSeconds(seconds, precision = 0.1) {
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(precision) - 1e-9)));
  return `${seconds.toFixed(digits)} s`;
}

/** Shorten a long name by leaving out its middle. */
export function shortened(name, most) {
  const letters = [...name];
  if (letters.length <= most) return name;
  const head = Math.ceil((most - 1) / 2);
  return `${letters.slice(0, head).join("")}…${
    letters.slice(letters.length - (most - 1 - head)).join("")
  }`;
}

/** Make a name displayable: describe an invisible one, and replace control characters. */
export function named(name) {
  return name.trim() ? name.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, "?") : say("nameless");
}
