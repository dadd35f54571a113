/** Controls: buttons, slider, keys, the draggable line of the limit, and playing. */

import { $, element, write } from "./view.mjs";
import { say } from "./texts.mjs";

const SPEEDS = { slow: 1600, normal: 800, fast: 200, fastest: 0 }; // milliseconds from step to step

export class Controls {
  constructor(view) {
    this.view = view;
    this.playing = null;
    this.#buttons();
    this.#line();
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  #buttons() {
    const { view } = this;
    const click = (id, action) => $(id).addEventListener("click", action);
    click("first", () => view.go(0));
    click("previous", () => view.go(view.step - 1));
    click("play", () => this.togglePlay());
    click("forward", () => this.forward());
    click("last", () => view.go(view.manager.length));
    click("next-miss", () => this.nextMiss());
    click("quiz", () => this.quiz());
    click("projector", () => this.projector());
    click("theme", () => this.theme());
    click("full", () => this.full());
    click("back", () => view.backToRecorded());
    click("try", () => view.tryLimit());
    click("zoom-in", () => view.timeline.zoom(2));
    click("zoom-out", () => view.timeline.zoom(0.5));
    click("zoom-all", () => view.timeline.all());
    $("slider").addEventListener("input", (event) => view.go(Number(event.target.value)));
    $("managers").addEventListener("change", (event) => view.choose(Number(event.target.value)));
    $("steps").addEventListener("toggle", () => view.render());
    $("speed").replaceChildren(
      ...Object.keys(SPEEDS).map((name) => element("option", { value: name }, say(name))),
    );
    $("speed").value = "normal";
  }

  #line() {
    const { view } = this;
    const pill = $("pill");
    let drag = null;
    pill.addEventListener("pointerdown", (event) => {
      pill.setPointerCapture(event.pointerId);
      drag = {
        y: event.clientY,
        limit: Math.min(view.shown.limit ?? Infinity, view.manager.accesses.different),
      };
    });
    pill.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const limit = drag.limit + Math.round((event.clientY - drag.y) / view.rowPitch());
      if (limit !== view.shown.limit) this.#setLimit(limit);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      pill.addEventListener(end, () => (drag = null));
    }
  }

  #setLimit(limit) {
    const most = Math.max(this.view.manager.accesses.different, 1);
    this.view.setLimit(Math.max(1, Math.min(most, limit)));
  }

  moveLine(by) {
    const { shown, manager } = this.view;
    if (!shown.hasLine) return this.view.tryLimit();
    return this.#setLimit(Math.min(shown.limit ?? Infinity, manager.accesses.different) + by);
  }

  forward() {
    const { view } = this;
    if (view.quiz.on) view.quiz.forward();
    else view.go(view.step + 1);
  }

  nextMiss() {
    const { view } = this;
    if (!view.quiz.on) return view.go(view.shown.nextMiss(view.step));
    const from = view.quiz.isAsking ? view.step + 1 : view.step;
    return view.go(Math.max(0, view.shown.nextEviction(from) - 1));
  }

  quiz() {
    this.stop();
    this.view.quiz.toggle();
  }

  projector() {
    document.documentElement.classList.toggle("projector");
    this.view.resized();
  }

  theme() {
    const { documentElement: page } = document;
    page.dataset.theme = this.view.isDark ? "light" : "dark";
    this.view.resized();
  }

  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.().catch(() => {});
  }

  togglePlay() {
    if (this.playing) return this.stop();
    if (this.view.quiz.on) return undefined;
    if (this.view.step >= this.view.manager.length) this.view.go(0);
    this.playing = { last: performance.now() };
    this.draw();
    this.#tick(this.playing);
    return undefined;
  }

  stop() {
    if (!this.playing) return;
    this.playing = null;
    this.draw();
  }

  #tick(playing) {
    requestAnimationFrame((now) => {
      if (this.playing !== playing) return;
      if (now - playing.last >= SPEEDS[$("speed").value]) {
        playing.last = now;
        this.view.show(this.view.step + 1);
      }
      if (this.view.step >= this.view.manager.length) this.stop();
      else this.#tick(playing);
    });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { tagName } = event.target;
    if (tagName === "TEXTAREA" || (tagName === "SELECT" && event.key !== "Escape")) return;
    if (
      (event.key === " " || event.key === "Enter") &&
      ["BUTTON", "SUMMARY", "INPUT"].includes(tagName) && event.target.id !== "slider"
    ) return;
    const { view } = this;
    if (view.quiz.on && event.key.length === 1 && view.quiz.key(event.key.toLowerCase())) {
      return event.preventDefault();
    }
    const actions = {
      ArrowRight: () => this.forward(),
      ArrowLeft: () => view.go(view.step - 1),
      ArrowUp: () => this.moveLine(-1),
      ArrowDown: () => this.moveLine(1),
      Home: () => view.go(0),
      End: () => view.go(view.manager.length),
      " ": () => this.togglePlay(),
      n: () => this.nextMiss(),
      0: () => view.setLimit(null),
      r: () => view.backToRecorded(),
      q: () => this.quiz(),
      p: () => this.projector(),
      t: () => this.theme(),
      f: () => this.full(),
      "+": () => view.timeline.zoom(2),
      "-": () => view.timeline.zoom(0.5),
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (/^[1-9]$/.test(key)) this.#setLimit(Number(key));
    else if (Object.hasOwn(actions, key)) actions[key]();
    else return undefined;
    return event.preventDefault();
  }

  draw() {
    const { view } = this;
    const { step, manager, quiz, shown } = view;
    const { length } = manager;
    const slider = $("slider");
    slider.max = length;
    slider.value = step;
    slider.style.setProperty("--done", `${length ? (100 * step) / length : 0}%`);
    slider.setAttribute(
      "aria-valuetext",
      say("about_access", { n: manager.numberOf(step), total: manager.total }),
    );
    write($("position"), say("of", { n: manager.numberOf(step), total: manager.total }));
    $("first").disabled = $("previous").disabled = step === 0;
    $("forward").disabled = $("last").disabled = step >= length && !quiz.isAsking;
    $("play").disabled = quiz.on || length === 0;
    const label = say(this.playing ? "pause" : "play");
    if ($("play").title !== label) {
      $("play").title = label;
      $("play").setAttribute("aria-label", label);
    }
    $("play").classList.toggle("playing", this.playing !== null);
    write($("next-miss"), say(quiz.on ? "next_eviction" : "next_miss"));
    $("quiz").setAttribute("aria-pressed", String(quiz.on));
    $("projector").setAttribute(
      "aria-pressed",
      String(document.documentElement.classList.contains("projector")),
    );
    write($("theme"), say(view.isDark ? "light" : "dark"));
    $("back").hidden = !manager.wasRun || shown.recorded;
    $("try").hidden = !shown.fromEvents || !length;
  }
}
