/** The data of a page, and the state at each step: recorded from events, or simulated. */

import { Accesses } from "./engine.mjs";

/** Decode a column that `columns.py` has encoded. */
export function numbersOf(column) {
  const bytes = atob(column);
  const numbers = new Int32Array(bytes.length);
  let count = 0;
  let value = 0;
  let shift = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes.charCodeAt(i);
    value |= (byte & 127) << shift;
    shift += 7;
    if (byte < 128) {
      numbers[count++] = (value >>> 1) ^ -(value & 1);
      value = shift = 0;
    }
  }
  return numbers.slice(0, count);
}

function summed(column) {
  const numbers = numbersOf(column);
  for (let i = 1; i < numbers.length; i++) numbers[i] += numbers[i - 1];
  return numbers;
}

/** One model manager: models, accesses, loads and limit. Steps of its window are counted from 1. */
export class Manager {
  constructor(content) {
    Object.assign(this, { step: content.step, process: content.process, why: content.why ?? [] });
    this.models = content.models;
    this.length = content.length;
    this.total = content.total;
    this.first = content.first;
    this.errors = content.errors ?? {};
    this.elements = numbersOf(content.elements);
    const models = numbersOf(content.model);
    this.keySets = content.sets;
    this.hasBatchesOfManyKeys = content.sets.some((keys) => keys.length > 1);
    this.sets = numbersOf(content.set).map((set, i) => set + models[i]);
    const { before } = content;
    this.accesses = new Accesses(models, this.models.length, {
      models: numbersOf(before.model),
      last: numbersOf(before.last),
    });
    this.wasRun = content.loads !== undefined;
    this.limit = content.limit ?? null;
    this.limitKnown = this.limit !== "unknown";
    this.followsLru = this.wasRun && content.recorded;
    if (this.wasRun) this.#readTimes(content);
  }

  get isWindow() {
    return this.length < this.total;
  }

  /** Number of a step among all accesses. */
  numberOf(step) {
    return this.first + step - 1;
  }

  keysOf(step) {
    return this.keySets[this.sets[step - 1]] ?? [];
  }

  modelOf(step) {
    return this.accesses.models[step - 1];
  }

  bytesOf(models) {
    let sum = 0;
    for (const model of models) {
      const { bytes } = this.models[model];
      if (bytes === null) return null;
      sum += bytes;
    }
    return sum;
  }

  #readTimes(content) {
    this.tick = content.tick;
    this.start = content.start;
    this.begin = summed(content.begin);
    this.lasted = numbersOf(content.lasted);
    this.end = content.end;
    const { loads } = content;
    const steps = this.followsLru ? lruLoads(this.accesses, this.limit) : readSteps(loads);
    const began = numbersOf(loads.begin).map(
      (early, i) => this.begin[Math.max(steps.load[i], 1) - 1] - early,
    );
    const moment = (column) =>
      numbersOf(column).map((late, i) => (late === 0 ? NEVER : began[i] + late - (late > 0)));
    this.loads = {
      ...steps,
      count: loads.count,
      begin: began,
      loaded: moment(loads.loaded),
      evicted: moment(loads.evicted),
      freed: moment(loads.freed),
      failed: loads.failed,
      already: new Set(loads.already),
    };
    this.#index();
  }

  /** Index the loads of each model, and the numbers of loads and evictions until each step. */
  #index() {
    const { model, load, evict, loaded, already } = this.loads; // a load before the window has step 0
    this.loadsOf = this.models.map(() => []);
    this.loadsUntil = new Int32Array(this.length + 1);
    this.evictionsUntil = new Int32Array(this.length + 1);
    this.reloadsUntil = new Int32Array(this.length + 1);
    this.evictedAt = new Map();
    /** Models in memory before the run, most recently used first. */
    this.waiting = [...already].reverse().map((i) => model[i]);
    for (let i = 0; i < this.loads.count; i++) {
      const again = this.loadsOf[model[i]].some((other) => evict[other] !== 0);
      this.loadsOf[model[i]].push(i);
      if (loaded[i] !== NEVER && load[i] > 0) {
        this.loadsUntil[load[i]]++;
        if (again) this.reloadsUntil[load[i]]++;
      }
      if (evict[i] <= 0) continue;
      this.evictionsUntil[evict[i]]++;
      if (!this.evictedAt.has(evict[i])) this.evictedAt.set(evict[i], []);
      this.evictedAt.get(evict[i]).push(model[i]);
    }
    for (const counts of [this.loadsUntil, this.evictionsUntil, this.reloadsUntil]) {
      for (let step = 1; step <= this.length; step++) counts[step] += counts[step - 1];
    }
  }

  /** The last load of a model that belongs to a step until `step`; -1 for none. */
  loadAt(model, step) {
    const loads = this.loadsOf[model];
    let [low, high] = [0, loads.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.loads.load[loads[middle]] <= step) low = middle + 1;
      else high = middle;
    }
    return low ? loads[low - 1] : -1;
  }

  /** Time of the state after a step, in ticks: its batch has ended, the next has not begun. */
  momentOf(step) {
    if (step === 0) return this.start;
    const begin = this.begin[step - 1];
    if (!this.lasted[step - 1]) return begin;
    const next = step < this.length ? this.begin[step] : Infinity;
    return Math.max(begin, Math.min(begin + this.lasted[step - 1] - 1, next));
  }

  /** The last step that had begun at `tick`. */
  stepAt(tick) {
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.begin[middle] <= tick) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Whether a model is evicted and not freed after a step. */
  isLeaving(model, step) {
    const place = this.loadAt(model, step);
    if (place < 0 || this.loads.evicted[place] === NEVER) return false;
    const moment = this.momentOf(step);
    const { evicted, freed } = this.loads;
    return evicted[place] <= moment && (freed[place] === NEVER || freed[place] > moment);
  }
}

export const NEVER = -(2 ** 31);

/**
 * The loads under a limit: model, step, and step of the eviction (0: never).
 * Models in memory at the begin of the window come first, with step 0.
 */
export function lruLoads(accesses, limit) {
  const run = accesses.run(limit);
  const model = Array.from(accesses.before.slice(0, accesses.held(0, limit)));
  const load = model.map(() => 0);
  const evict = model.map(() => 0);
  const latest = new Int32Array(accesses.count);
  model.forEach((each, i) => (latest[each] = i));
  for (let step = 1; step <= accesses.length; step++) {
    const out = run.evicted[step];
    if (out >= 0) evict[latest[out]] = step;
    if (run.loads[step] === run.loads[step - 1]) continue;
    latest[accesses.models[step - 1]] = load.length;
    model.push(accesses.models[step - 1]);
    load.push(step);
    evict.push(0);
  }
  return { model, load, evict };
}

function readSteps(loads) {
  return {
    model: numbersOf(loads.model),
    load: summed(loads.step),
    evict: numbersOf(loads.evict_step),
  };
}

/** The shown states: the recorded run, or the same accesses under another limit. */
export class Shown {
  constructor(manager, limit, recorded) {
    Object.assign(this, { manager, limit, recorded });
    /** Whether the recorded events are shown, because they do not follow LRU. */
    this.fromEvents = recorded && !manager.followsLru;
  }

  get hasLine() {
    return !this.fromEvents;
  }

  isMiss(step) {
    if (!this.fromEvents) return !this.manager.accesses.isHit(step, this.limit);
    const { loadsUntil } = this.manager;
    return loadsUntil[step] > loadsUntil[step - 1] || this.loadFailed(step);
  }

  loadFailed(step) {
    if (!this.fromEvents) return false;
    const place = this.manager.loadAt(this.manager.modelOf(step), step);
    const { load, loaded } = this.manager.loads;
    return place >= 0 && load[place] === step && loaded[place] === NEVER;
  }

  hasFailed(step) {
    return this.recorded && String(step) in this.manager.errors;
  }

  /** Models evicted by a step. */
  evicted(step) {
    if (step === 0) return [];
    if (this.fromEvents) return this.manager.evictedAt.get(step) ?? [];
    const out = this.manager.accesses.evicted(step, this.limit);
    return out < 0 ? [] : [out];
  }

  loads(step) {
    if (this.fromEvents) return this.manager.loadsUntil[step];
    return this.manager.accesses.loads(step, this.limit);
  }

  reloads(step) {
    if (this.fromEvents) return this.manager.reloadsUntil[step];
    return this.manager.accesses.reloads(step, this.limit);
  }

  evictions(step) {
    if (this.fromEvents) return this.manager.evictionsUntil[step];
    return this.manager.accesses.evictions(step, this.limit);
  }

  misses(step) {
    if (!this.fromEvents) return this.loads(step);
    if (!this.missesUntil) {
      this.missesUntil = new Int32Array(this.manager.length + 1);
      for (let i = 1; i <= this.manager.length; i++) {
        this.missesUntil[i] = this.missesUntil[i - 1] + this.isMiss(i);
      }
    }
    return this.missesUntil[step];
  }

  failures(step) {
    if (!this.recorded) return 0;
    return Object.keys(this.manager.errors).filter((at) => Number(at) <= step).length;
  }

  /** Models accessed or in memory so far, most recently used first, including evicted models. */
  stack(step) {
    if (this.known?.step !== step) this.known = { step, ...this.#stack(step) };
    const { held, gone } = this.known;
    return { held: [...held], gone: [...gone] };
  }

  #stack(step) {
    const stack = this.manager.accesses.stack(step);
    if (!this.fromEvents) {
      const held = this.manager.accesses.held(step, this.limit);
      return { held: stack.slice(0, held), gone: stack.slice(held) };
    }
    const isHeld = (model) => {
      const place = this.manager.loadAt(model, step);
      const { loaded, evict } = this.manager.loads;
      if (place < 0) return true; // its load was not seen
      return loaded[place] !== NEVER && !(evict[place] && evict[place] <= step);
    };
    const all = [...stack, ...this.manager.waiting.filter((model) => !stack.includes(model))];
    return { held: all.filter(isHeld), gone: all.filter((model) => !isHeld(model)) };
  }

  nextMiss(step) {
    for (let i = step + 1; i <= this.manager.length; i++) if (this.isMiss(i)) return i;
    return this.manager.length;
  }

  nextEviction(step) {
    for (let i = step + 1; i <= this.manager.length; i++) if (this.evicted(i).length) return i;
    return this.manager.length;
  }
}
