/** The timeline: a lane per model, over seconds of a recorded run or over simulated accesses. */

import { lruLoads, NEVER } from "./data.mjs";
import { $, chip, element, listOf } from "./view.mjs";
import { inBytes, inSeconds, named, say, shortened } from "./texts.mjs";

const MOST_LANES = 12;
const LANE = 1.5; // heights in rem
const AXIS = 1.6;
const MOST_ZOOM = 4096;

export class Timeline {
  constructor(view) {
    this.view = view;
    this.canvas = $("canvas");
    this.from = 0;
    this.to = 1; // visible part of the whole span, as shares
    this.focusedLane = null;
    this.#listen();
  }

  /** Choose the lanes again after a change of manager, limit, width or theme. */
  reset() {
    const { manager, shown } = this.view;
    this.rem = this.view.rem;
    this.width = this.canvas.clientWidth;
    const { accesses } = manager;
    this.seconds = shown.recorded && manager.wasRun;
    this.span = this.seconds
      ? [manager.start, Math.max(manager.end, manager.start + 1)]
      : [0, Math.max(manager.length, 1)];
    const loads = this.seconds ? manager.loads : lruLoads(accesses, shown.limit);
    this.loadsOf = manager.models.map(() => []);
    for (let i = 0; i < loads.model.length; i++) this.loadsOf[loads.model[i]].push(i);
    this.loads = loads;
    const busy = manager.models.map((_, model) => model)
      .filter((model) =>
        accesses.offsets[model + 1] > accesses.offsets[model] || this.loadsOf[model].length
      );
    const work = (model) =>
      this.loadsOf[model].length + accesses.offsets[model + 1] - accesses.offsets[model];
    const kept = new Set([...busy].sort((a, b) => work(b) - work(a)).slice(0, MOST_LANES));
    this.lanes = busy.filter((model) => kept.has(model));
    this.left = busy.length - this.lanes.length;
    this.#labels();
    this.headHeight = document.querySelector(".timeline-top").offsetHeight;
    this.stale = true;
  }

  get height() {
    return (this.lanes.length * LANE + AXIS) * this.rem;
  }

  #labels() {
    const { looks, shown, manager } = this.view;
    $("lanes").replaceChildren(
      ...this.lanes.map((model) =>
        element(
          "li",
          { title: looks[model].name },
          chip(looks[model], false),
          element("span", {}, shortened(looks[model].name, 12)),
        )
      ),
      ...(this.left ? [element("li", { class: "more" }, say("more", { n: this.left }))] : []),
    );
    const limit = shown.limit === null ? say("no_limit") : say("limit", { n: shown.limit });
    const head = shown.recorded ? say("timeline_recorded") : say("timeline_simulated", { limit });
    const [a, b] = this.span.map((t) => inSeconds(t * (manager.tick ?? 1), 0.1));
    const aside = !this.seconds
      ? say("timeline_axis")
      : manager.first > 1
      ? say("from_to", { a, b })
      : b;
    $("timeline-head").replaceChildren(element("b", {}, head), ` ${aside}`);
    for (const part of document.querySelectorAll("[data-legend]")) {
      part.hidden = !this.seconds && ["leaving", "failed"].includes(part.dataset.legend);
    }
    const has = this.seconds ? manager.loads : null;
    const failed = has !== null && Object.keys(has.failed).length > 0;
    document.querySelector("[data-legend=failed]").hidden = !failed;
    document.querySelector("[data-legend=leaving]").hidden = !has ||
      !has.evicted.some((t, i) =>
        t !== NEVER &&
        (has.freed[i] === NEVER || has.freed[i] - t > (this.span[1] - this.span[0]) / 500)
      );
  }

  // Coordinates

  at(x) {
    return this.span[0] +
      (this.from + (x / this.width) * (this.to - this.from)) * (this.span[1] - this.span[0]);
  }

  x(t) {
    return (((t - this.span[0]) / (this.span[1] - this.span[0]) - this.from) /
      (this.to - this.from)) * this.width;
  }

  momentOf(step) {
    return this.seconds ? this.view.manager.momentOf(step) : step;
  }

  stepAt(t) {
    const { manager } = this.view;
    return this.seconds
      ? manager.stepAt(t)
      : Math.max(0, Math.min(manager.length, Math.ceil(t - 1e-9)));
  }

  zoom(factor, x = this.width / 2) {
    const wide = Math.min(1, Math.max(1 / MOST_ZOOM, (this.to - this.from) / factor));
    const share = x / this.width;
    this.#window(this.from + share * (this.to - this.from) - share * wide, wide);
  }

  all() {
    this.#window(0, 1);
  }

  pan(share) {
    this.#window(this.from + share * (this.to - this.from), this.to - this.from);
  }

  #window(from, wide) {
    this.from = Math.max(0, Math.min(1 - wide, from));
    this.to = this.from + wide;
    this.stale = true;
    this.#drawSoon();
  }

  #drawSoon() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.#paintAll();
    });
  }

  // Drawing

  /** Draw the playhead at the step, and everything else that is not drawn yet. */
  draw() {
    const { step } = this.view;
    const share = (this.momentOf(step) - this.span[0]) / (this.span[1] - this.span[0]);
    const wide = this.to - this.from;
    if (wide < 1 && (share < this.from || share > this.to)) {
      this.from = Math.max(0, Math.min(1 - wide, share - wide / 2));
      this.to = this.from + wide;
      this.stale = true;
    }
    this.#paintAll();
    this.canvas.setAttribute("aria-valuemax", String(this.view.manager.length));
    this.canvas.setAttribute("aria-valuenow", String(step));
    this.canvas.setAttribute("aria-valuetext", this.#spoken());
    if (document.activeElement === this.canvas) this.#showFocus();
  }

  #spoken() {
    const { step, manager } = this.view;
    const words = say("about_access", { n: manager.numberOf(step), total: manager.total });
    return this.seconds
      ? `${words}, ${inSeconds(this.momentOf(step) * manager.tick, 0.01)}`
      : words;
  }

  #paintAll() {
    const { width, view } = this;
    if (!width) return;
    if (this.stale) this.#paintCanvas();
    const x = Math.min(width - 1, Math.max(1, this.x(this.momentOf(view.step))));
    $("playhead").style.transform = `translateX(${(x - 1).toFixed(1)}px)`;
    $("future").style.transform = `translateX(${x.toFixed(1)}px)`;
    $("future").classList.toggle("hidden", view.quiz.on);
  }

  #paintCanvas() {
    const { canvas, width } = this;
    const scale = window.devicePixelRatio || 1;
    const wide = Math.round(width * scale);
    const high = Math.round(this.height * scale);
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.style.height = `${this.height}px`;
      canvas.width = wide;
      canvas.height = high;
      $("lanes-cover").style.height = `${this.lanes.length * LANE * this.rem}px`;
    }
    this.#paintBase(scale);
    this.stale = false;
  }

  #paintBase(scale) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.ink = { paper: colour("--paper"), text: colour("--ink"), muted: colour("--muted") };
    const context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.hatching = hatching(context, this.ink.text, this.ink.paper);
    this.lanes.forEach((model, lane) => this.#paintLane(context, model, lane));
    this.#paintAxis(context);
  }

  #paintLane(context, model, lane) {
    const { view, rem, width } = this;
    const look = view.looks[model];
    const edge = this.view.isDark ? look.light : look.dark;
    const middle = (lane + 0.5) * LANE * rem;
    const half = LANE * rem * 0.32;
    context.strokeStyle = this.ink.muted;
    context.globalAlpha = 0.5;
    context.setLineDash([1, 5]);
    line(context, 0, middle, width, middle, 1);
    context.setLineDash([]);
    context.globalAlpha = 1;
    const bar = (begin, end, draw) => {
      const [a, b] = [Math.max(-2, begin), Math.min(width + 2, end)];
      if (b >= 0 && a <= width) draw(a, Math.max(b - a, 1));
    };
    const thick = Math.max(3, rem * 0.24);
    let busyUntil = -1;
    let lastCross = -8;
    for (const load of this.loadsOf[model]) {
      const times = this.#times(load);
      const { failed } = times;
      const from = this.x(times.begin);
      const loaded = this.x(times.loaded);
      const evicted = this.x(times.evicted);
      const freed = this.x(times.freed);
      if (evicted < busyUntil && freed < busyUntil) continue; // less than a pixel, and already drawn
      if (!failed) {
        bar(loaded, evicted, (x, wide) => {
          context.fillStyle = edge;
          context.fillRect(x, middle - thick / 2, wide, thick);
        });
      }
      if (freed > evicted + 1 && !failed) {
        bar(evicted, freed, (x, wide) => {
          context.strokeStyle = edge;
          context.strokeRect(x, middle - thick / 2, wide, thick);
        });
      }
      bar(from, loaded, (x, wide) => {
        context.fillStyle = this.hatching;
        context.fillRect(x, middle - half, wide, 2 * half);
        context.strokeStyle = failed ? this.ink.text : edge;
        context.lineWidth = 1;
        if (wide > 2) context.strokeRect(x + 0.5, middle - half, wide - 1, 2 * half);
      });
      if (failed) cross(context, loaded, middle, half, this.ink.text);
      else if (evicted < width + 4 && evicted > lastCross + 3 && this.#isEvicted(load)) {
        cross(context, evicted, middle, half * 0.55, this.ink.text);
        lastCross = evicted;
      }
      busyUntil = Math.floor(Math.max(evicted, freed)) + 0.999;
    }
    this.#paintUses(context, model, middle, half, look.colour, edge);
  }

  #paintUses(context, model, middle, half, fill, edge) {
    const { accesses } = this.view.manager;
    let until = -1;
    for (let i = accesses.offsets[model]; i < accesses.offsets[model + 1]; i++) {
      const [begin, end] = this.#use(accesses.uses[i]);
      if (end < 0 || end < until) continue;
      if (begin > this.width) break;
      const wide = Math.max(end - begin, 1.5);
      context.fillStyle = fill;
      context.fillRect(begin, middle - half, wide, 2 * half);
      context.fillStyle = edge;
      context.fillRect(begin, middle - half, wide, 1);
      context.fillRect(begin, middle + half - 1, wide, 1);
      if (wide > 3) {
        context.fillRect(begin, middle - half, 1, 2 * half);
        context.fillRect(begin + wide - 1, middle - half, 1, 2 * half);
      }
      until = Math.floor(begin) + 1;
    }
  }

  /** Begin and end of a use. A simulated load takes the first half of its access. */
  #use(step) {
    const { manager, shown } = this.view;
    if (this.seconds) {
      const begin = manager.begin[step - 1];
      return [this.x(begin), this.x(begin + Math.max(manager.lasted[step - 1] - 1, 0))];
    }
    return [this.x(shown.isMiss(step) ? step - 0.5 : step - 0.95), this.x(step - 0.05)];
  }

  #isEvicted(load) {
    return this.seconds ? this.loads.evicted[load] !== NEVER : this.loads.evict[load] > 0;
  }

  /** Times at which a load began and ended, and the model was evicted and freed. */
  #times(load) {
    const { loads, span } = this;
    if (!this.seconds) {
      const step = loads.load[load];
      const evicted = loads.evict[load] ? loads.evict[load] - 1 : span[1];
      return { begin: step - 0.95, loaded: step - 0.5, evicted, freed: evicted, failed: false };
    }
    const known = (moment, otherwise) => (moment === NEVER ? otherwise : moment);
    const freed = known(loads.freed[load], span[1]);
    return {
      begin: loads.begin[load],
      loaded: known(loads.loaded[load], freed),
      evicted: known(loads.evicted[load], freed),
      freed,
      failed: loads.loaded[load] === NEVER,
    };
  }

  #paintAxis(context) {
    const { rem, width } = this;
    const unit = this.seconds ? this.view.manager.tick : 1;
    const before = this.seconds ? 0 : this.view.manager.first - 1;
    const [a, b] = [this.at(0) * unit + before, this.at(width) * unit + before];
    const step = niceStep(b - a, width / (rem * 6), this.seconds ? 0 : 1);
    context.fillStyle = this.ink.muted;
    context.font = `${0.88 * rem}px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    const y = this.lanes.length * LANE * rem + AXIS * rem * 0.55;
    for (let t = Math.ceil(a / step) * step; t <= b + step * 1e-6; t += step) {
      const text = this.seconds ? inSeconds(t === 0 ? 0 : t, step) : String(Math.round(t));
      const wide = context.measureText(text).width;
      context.fillText(
        text,
        Math.min(width - wide, Math.max(0, this.x((t - before) / unit) - wide / 2)),
        y,
      );
    }
  }

  // Pointer and focus

  #tell(model, t) {
    const { manager, looks } = this.view;
    const { accesses } = manager;
    const lines = [];
    const unit = (
      value,
    ) => (this.seconds
      ? inSeconds(value * manager.tick, 0.001)
      : say("about_access", { n: manager.numberOf(value), total: manager.total }));
    const step = this.seconds ? manager.stepAt(t) : this.stepAt(t);
    const last = accesses.lastUse(model, step);
    let name = "tip_out";
    let span = null;
    let failed = null;
    let keys = last > 0 ? manager.keysOf(last) : manager.models[model].keys;
    const place = this.loadsOf[model].findLast((load) => this.#times(load).begin <= t);
    if (place !== undefined) {
      const { begin, loaded, evicted, freed } = this.#times(place);
      const error = this.seconds ? this.loads.failed[place] : null;
      if (t < loaded) [name, span] = ["tip_loading", [begin, loaded]];
      else if (t < evicted) [name, span] = ["tip_held", [loaded, evicted]];
      else if (t < freed) [name, span] = ["tip_leaving", [evicted, freed]];
      if (error) [name, span, failed] = ["tip_failed", [begin, loaded], error];
    }
    if (last > 0) {
      const begin = this.seconds ? manager.begin[last - 1] : last - 1;
      const end = this.seconds ? begin + Math.max(manager.lasted[last - 1] - 1, 1) : last;
      if (t >= begin && t <= end && name !== "tip_loading") {
        [name, span] = ["tip_use", [begin, end]];
      } else if (name !== "tip_use") keys = manager.models[model].keys;
      if (name === "tip_use") failed = manager.errors[last] ?? null;
    }
    lines.push(element("b", {}, say(name, { model: looks[model].name })));
    if (span && this.seconds) {
      lines.push(
        say(this.#isHidden(span[1]) ? "since" : "from_to", { a: unit(span[0]), b: unit(span[1]) }),
      );
    } else if (name === "tip_use") lines.push(unit(last));
    if (keys.length) lines.push(listOf(keys.map(named), 6));
    if (manager.models[model].bytes !== null) lines.push(inBytes(manager.models[model].bytes));
    if (failed) lines.push(shortened(named(failed), 200));
    return lines;
  }

  /** Whether a quiz hides a time because it is after the step. */
  #isHidden(t) {
    return this.view.quiz.on && t > this.momentOf(this.view.step);
  }

  #showTip(lane, t, x) {
    const tip = $("tip");
    const model = this.lanes[lane];
    if (model === undefined || this.#isHidden(t)) return this.#hideTip();
    tip.replaceChildren(...this.#tell(model, t).map((text) => element("span", {}, text)));
    tip.hidden = false;
    const area = this.canvas.parentElement;
    const left = area.offsetLeft + Math.min(Math.max(0, x - 20), this.width - tip.offsetWidth - 4);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${area.offsetTop + lane * LANE * this.rem - tip.offsetHeight - 4}px`;
    return undefined;
  }

  #hideTip() {
    $("tip").hidden = true;
  }

  #showFocus() {
    const { manager, step } = this.view;
    const lane = this.focusedLane ??
      Math.max(0, this.lanes.indexOf(step ? manager.modelOf(step) : this.lanes[0]));
    const t = this.seconds && step
      ? manager.begin[step - 1]
      : Math.max(0, this.momentOf(step) - 0.2);
    this.#showTip(lane, t, this.x(t));
    const model = this.lanes[lane];
    if (model !== undefined && !$("tip").hidden) {
      this.canvas.setAttribute(
        "aria-valuetext",
        `${this.#spoken()}. ${[...$("tip").children].map((line) => line.textContent).join(", ")}`,
      );
    }
  }

  #listen() {
    const { canvas } = this;
    let dragged = null;
    const lane = (event) => Math.floor(event.offsetY / (LANE * this.rem));
    canvas.addEventListener("pointerdown", (event) => {
      dragged = { x: event.offsetX, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (dragged && (dragged.moved || Math.abs(event.offsetX - dragged.x) > 4)) {
        dragged.moved = true;
        this.pan((dragged.x - event.offsetX) / this.width);
        dragged.x = event.offsetX;
        return;
      }
      this.#showTip(lane(event), this.at(event.offsetX), event.offsetX);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (dragged && !dragged.moved && !this.view.quiz.on) {
        this.view.go(this.stepAt(this.at(event.offsetX)));
      }
      dragged = null;
    });
    canvas.addEventListener("pointerleave", () => this.#hideTip());
    canvas.addEventListener("focus", () => this.#showFocus());
    canvas.addEventListener("blur", () => {
      this.focusedLane = null;
      this.#hideTip();
    });
    canvas.addEventListener("wheel", (event) => {
      const across = event.shiftKey ? event.deltaY : event.deltaX;
      if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(-event.deltaY / 200), event.offsetX);
      else if (across && this.to - this.from < 1) this.pan(across / this.width);
      else return;
      event.preventDefault();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
      event.preventDefault();
      event.stopPropagation();
      const now = this.focusedLane ??
        this.lanes.indexOf(
          this.view.step ? this.view.manager.modelOf(this.view.step) : this.lanes[0],
        );
      this.focusedLane = Math.max(
        0,
        Math.min(this.lanes.length - 1, now + (event.key === "ArrowUp" ? -1 : 1)),
      );
      this.#showFocus();
    });
  }
}

function line(context, x1, y1, x2, y2, wide) {
  context.lineWidth = wide;
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

function cross(context, x, y, r, colour) {
  context.strokeStyle = colour;
  line(context, x - r, y - r, x + r, y + r, 1.6);
  line(context, x - r, y + r, x + r, y - r, 1.6);
}

function hatching(context, ink, paper) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const drawing = tile.getContext("2d");
  drawing.fillStyle = paper;
  drawing.fillRect(0, 0, 6, 6);
  drawing.strokeStyle = ink;
  for (const x of [-6, 0, 6]) line(drawing, x - 1, 7, x + 7, -1, 1);
  return context.createPattern(tile, "repeat");
}

function niceStep(span, most, least) {
  const rough = Math.max(span / Math.max(most, 1), least || 1e-9);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough - 1e-12) * power;
  return Math.max(step, least);
}
