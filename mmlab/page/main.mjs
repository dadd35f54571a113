/** Builds the page, and provides `window.replay`. */

import { Controls } from "./controls.mjs";
import { Manager, Shown } from "./data.mjs";
import { followNotebook, takeFrame } from "./frame.mjs";
import { listenForFiles } from "./open.mjs";
import { Quiz } from "./quiz.mjs";
import { drawStack } from "./stack.mjs";
import { named, say, shortened, useTexts } from "./texts.mjs";
import { Timeline } from "./timeline.mjs";
import {
  $,
  drawChart,
  drawCounts,
  drawList,
  drawSentence,
  drawStrip,
  element,
  looksOf,
  styleLooks,
  write,
} from "./view.mjs";

class View {
  constructor(content) {
    this.unfolded = false;
    this.step = 0;
    this.#take(content);
    this.quiz = new Quiz(this);
    this.timeline = new Timeline(this);
    this.controls = new Controls(this);
    window.addEventListener("resize", () => this.resized());
    const moved = new ResizeObserver(
      () => (this.width === $("controls").clientWidth ? this.#moved() : this.resized()),
    );
    for (const id of ["controls", "sentence", "counts", "chart", "timeline"]) moved.observe($(id));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.resized());
    this.choose(0);
    followNotebook(() => this.resized());
  }

  /** Show the data of another page. */
  open(content) {
    this.#take(content);
    this.choose(0);
  }

  #take(content) {
    const contents = content.managers.length ? content.managers : [EMPTY];
    this.managers = contents.map((each) => new Manager(each));
    this.content = content;
    this.looks = [];
  }

  choose(number) {
    this.number = number;
    this.manager = this.managers[number];
    this.looks = looksOf(this.manager.models);
    styleLooks(this.looks);
    this.unfolded = false;
    this.timeline.all();
    $("stack").querySelectorAll("li").forEach((row) => row.remove());
    $("strip").replaceChildren();
    $("chart").dataset.key = "";
    this.step = 0;
    this.quiz.moved();
    this.shown = this.#asRecorded();
    this.#drawManagers();
    this.#measure();
    this.timeline.reset();
    this.render();
    this.#moved();
  }

  #asRecorded() {
    const { manager } = this;
    const middle = Math.max(1, Math.ceil(manager.accesses.different / 2));
    return manager.wasRun
      ? new Shown(manager, manager.limitKnown ? manager.limit : null, true)
      : new Shown(manager, middle, false);
  }

  // Steps and limits

  /** Go to a step on the user's request: playing stops, and a quiz asks a new question. */
  go(step) {
    this.controls.stop();
    this.step = this.#within(step);
    this.quiz.moved();
    this.render();
  }

  /** Show a step, while playing or after an answer. */
  show(step) {
    this.step = this.#within(step);
    this.render();
  }

  #within(step) {
    return Math.max(0, Math.min(this.manager.length, Math.trunc(Number(step)) || 0));
  }

  setLimit(limit) {
    const { manager } = this;
    if (limit !== null && !(Number.isInteger(limit) && limit >= 1)) {
      throw new RangeError(`the limit must be a whole number from 1 on, or null, got ${limit}`);
    }
    const recorded = manager.followsLru && limit === manager.limit;
    this.#limit(new Shown(manager, limit, recorded));
  }

  backToRecorded() {
    if (this.manager.wasRun) this.#limit(this.#asRecorded());
  }

  /** Replace the events of a run that was not plain LRU by a simulation with a movable limit. */
  tryLimit() {
    const { limit, limitKnown, accesses } = this.manager;
    this.setLimit(limitKnown && limit ? limit : Math.max(1, accesses.different - 1));
  }

  #limit(shown) {
    this.shown = shown;
    this.quiz.moved();
    this.timeline.reset();
    this.render();
  }

  unfold() {
    this.unfolded = true;
    this.render();
  }

  // Drawing

  resized() {
    this.#measure();
    this.timeline.reset();
    this.render();
  }

  /** Measure what changes only with the window, since each measurement forces a layout. */
  #measure() {
    const style = getComputedStyle(document.documentElement);
    this.rem = parseFloat(style.fontSize);
    this.isDark = style.getPropertyValue("--scheme").trim() === "dark";
    this.#place();
    this.width = $("controls").clientWidth;
    this.bar = $("most-recent").offsetWidth / this.rem;
    this.tallName = Math.max(8, Math.floor((this.bar - 3.3) / 0.74));
    this.shortName = Math.max(8, Math.floor((this.bar - 3) / 0.66));
    this.arrowsWidth = $("arrows").clientWidth;
    this.isNarrow = window.innerWidth < 1000 ||
      document.documentElement.classList.contains("projector");
  }

  render() {
    this.controls.draw();
    this.#drawSource();
    drawStrip(this);
    const said = drawSentence(this);
    drawStack(this);
    drawCounts(this);
    drawChart(this);
    this.timeline.draw();
    drawList(this);
    if (!this.controls.playing || this.step === this.manager.length) write($("live"), said);
  }

  /** Height for the stack, in pixels, with the whole timeline or only its heading in sight. */
  stackSpace() {
    const { rem, timeline } = this;
    const needed = (Math.min(this.manager.accesses.different, 8) * 2 + 3.2) * rem;
    const withHeading = window.innerHeight - this.top - timeline.headHeight - rem;
    const withTimeline = withHeading - timeline.height;
    const space = withTimeline >= Math.max(needed, this.beside) ? withTimeline : withHeading;
    return Math.max(space, this.beside, 11 * rem);
  }

  /** Draw the stack again if the height of elements above or beside it has changed. */
  #moved() {
    const { top, beside } = this;
    this.#place();
    if (top !== this.top || beside !== this.beside) drawStack(this);
  }

  #place() {
    this.top = $("stack-area").offsetTop + $("stack").offsetTop;
    this.beside = $("chart").offsetTop + $("chart").offsetHeight - this.top;
  }

  rowPitch() {
    const row = $("stack").querySelector("li[data-model]");
    return row ? row.offsetHeight + 6 : 40;
  }

  #drawManagers() {
    const { content } = this;
    const select = $("managers");
    select.hidden = this.managers.length < 2;
    select.replaceChildren(
      ...this.managers.map((each, i) =>
        element("option", { value: i }, shortened(named(this.#where(each)), 60))
      ),
    );
    select.value = this.number;
    const out = content.managers_in_all > this.managers.length && content.managers.length;
    write(
      $("left-out"),
      out
        ? say("managers_left_out", { n: this.managers.length, total: content.managers_in_all })
        : "",
    );
  }

  #where(manager) {
    return this.managers.length > 1 ? `${manager.step} · ${manager.process}` : manager.step;
  }

  #aboutWindow() {
    const { manager } = this;
    const values = { a: manager.first, b: manager.numberOf(manager.length), total: manager.total };
    const counts = manager.first > 1 ? ` ${say("window_counts", values)}` : "";
    return say("window", values) + counts;
  }

  #drawSource() {
    const { shown, manager } = this;
    const limit = !manager.limitKnown && shown.recorded
      ? say("unknown_limit")
      : shown.limit === null
      ? say("no_limit")
      : say("limit", { n: shown.limit });
    const values = {
      where: shortened(named(this.#where(manager)), 48),
      accesses: say("accesses", { n: manager.total }),
      limit,
    };
    const kind = !manager.wasRun ? "predicted" : shown.recorded ? "recorded" : "simulated";
    const about = shown.fromEvents ? "about_events" : `about_${kind}`;
    $("source").dataset.kind = kind;
    write($("source-kind"), say(kind));
    write($("source-about"), manager.length ? say(about, values) : "");
    $("source").title = $("source").textContent.trim();
    write($("window"), manager.isWindow ? this.#aboutWindow() : "");
    const why = shown.fromEvents && manager.length
      ? [say("not_lru"), ...manager.why.map(reason)].join(" ")
      : "";
    write($("reasons"), why);
  }
}

function reason([name, a, b]) {
  return say(name, { n: a, a, b });
}

const EMPTY = {
  step: "",
  process: "",
  models: [],
  total: 0,
  first: 1,
  length: 0,
  before: { model: "", last: "" },
  model: "",
  elements: "",
  sets: [],
  set: "",
};

/**
 * Controls the page from outside. Step 0 is before the first access of the page, which is number
 * `first` of all accesses. A hint of null is none.
 */
function driver(view) {
  return {
    get steps() {
      return view.manager.length;
    },
    get first() {
      return view.manager.first;
    },
    goto(step) {
      view.go(step);
    },
    setHint(limit) {
      if (limit === undefined) view.backToRecorded();
      else view.setLimit(limit);
    },
    state() {
      const { manager, shown, step } = view;
      const name = (model) => manager.models[model].name;
      const evicted = shown.evicted(step);
      return {
        process: manager.process,
        step,
        hint: shown.recorded && !manager.limitKnown ? "unknown" : shown.limit,
        recorded: shown.recorded,
        slots: shown.stack(step).held.reverse().map(name),
        loads: shown.loads(step),
        evictions: shown.evictions(step),
        hit: step ? !shown.isMiss(step) : null,
        evicted: evicted.length ? name(evicted[0]) : null,
      };
    },
  };
}

function fillTexts() {
  document.title = say("title");
  for (const place of document.querySelectorAll("[data-text]")) {
    place.textContent = say(place.dataset.text);
  }
  for (const place of document.querySelectorAll("[data-label]")) {
    const label = say(place.dataset.label);
    place.setAttribute("aria-label", label);
    if (place.tagName === "BUTTON") place.title = label;
  }
}

function start() {
  const content = JSON.parse($("data").textContent);
  if (content.texts) useTexts(content.texts);
  fillTexts();
  takeFrame();
  const view = new View(content);
  window.replay = driver(view);
  if (content.opens) {
    const panel = {
      area: $("open"),
      input: $("file"),
      mapping: $("mapping"),
      problem: $("open-problem"),
    };
    listenForFiles(panel, (other) => view.open(other));
  }
}

start();
