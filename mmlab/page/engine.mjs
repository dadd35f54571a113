/**
 * LRU for all limits at once, and the optimum.
 *
 * LRU is a stack algorithm (Mattson et al., 1970): memory under limit n is always the top n of one
 * stack, the models sorted by last use. An access is a miss if its stack distance is greater than
 * the limit. So every state is computed from (step, limit), and none is stored. Steps are counted
 * from 1: step n is the state after access n, and 0 is before the first. A limit of null is none.
 *
 * The accesses can be a window of a longer run. Then the stack begins with the models used earlier,
 * at steps 0, -1, …; only loads and evictions of the window are counted.
 */

export class Accesses {
  /**
   * @param {ArrayLike<number>} models number of the model of each access
   * @param {number} count number of models
   * @param {{models: ArrayLike<number>, last: ArrayLike<number>}} before models used before the
   *   window, most recently used first, and the steps of their last uses
   */
  constructor(models, count, before = { models: [], last: [] }) {
    this.models = models;
    this.count = count;
    this.length = models.length;
    this.before = before.models;
    this.usedBefore = new Map(Array.from(before.models, (model, i) => [model, before.last[i]]));
    this.distances = stackDistances(models, count, this.before);
    [this.offsets, this.uses] = usesOfModels(models, count);
    this.seen = new Int32Array(this.length + 1).fill(this.before.length, 0, 1);
    for (let i = 0; i < this.length; i++) {
      this.seen[i + 1] = this.seen[i] + (this.distances[i] === 0);
    }
    this.totals = loadsByLimit(this.distances, count);
    this.runs = new Map();
  }

  /** Number of different models accessed, including those before the window. */
  get different() {
    return this.seen[this.length];
  }

  /** Loads until each step under a limit, and the model that each step evicts (-1: none). */
  run(limit) {
    const most = this.effective(limit);
    let run = this.runs.get(most);
    if (run === undefined) {
      if (this.runs.size > 3) this.runs.clear();
      this.runs.set(most, run = runUnder(this, most));
    }
    return run;
  }

  /** The limit, clipped at the number of models: higher limits have the same effect. */
  effective(limit) {
    return limit === null ? Math.max(this.count, 1) : Math.min(limit, Math.max(this.count, 1));
  }

  loads(step, limit) {
    return this.run(limit).loads[step];
  }

  evictions(step, limit) {
    return this.loads(step, limit) - this.held(step, limit) + this.held(0, limit);
  }

  /** Number of loads of models that had been loaded before. */
  reloads(step, limit) {
    return this.loads(step, limit) - this.seen[step] + this.seen[0];
  }

  /** Number of models in memory after a step. */
  held(step, limit) {
    return Math.min(this.effective(limit), this.seen[step]);
  }

  isHit(step, limit) {
    const distance = this.distances[step - 1];
    return distance > 0 && distance <= this.effective(limit);
  }

  /** The model evicted by a step; -1 for none. */
  evicted(step, limit) {
    return step > 0 ? this.run(limit).evicted[step] : -1;
  }

  /** Number of loads in the whole run under a limit. */
  total(limit) {
    return this.totals[this.effective(limit)];
  }

  /** Fewest possible loads in the whole run under a limit. */
  optimum(limit) {
    this.fewest ??= fewestLoads(this.models, this.count, this.before);
    return this.fewest[this.effective(limit)];
  }

  /** Models accessed until a step, most recently used first. */
  stack(step) {
    const found = [];
    for (let model = 0; model < this.count; model++) {
      const last = this.lastUse(model, step);
      if (last > -Infinity) found.push([last, model]);
    }
    return found.sort((a, b) => b[0] - a[0]).map((pair) => pair[1]);
  }

  /** The last step until `step` that accessed a model; -Infinity for none. */
  lastUse(model, step) {
    const place = this.#usesUntil(model, step);
    if (place > this.offsets[model]) return this.uses[place - 1];
    return this.usedBefore.get(model) ?? -Infinity;
  }

  /** The first step after `step` that accesses a model; 0 for none. */
  nextUse(model, step) {
    const place = this.#usesUntil(model, step);
    return place < this.offsets[model + 1] ? this.uses[place] : 0;
  }

  /** The model among `models` whose next use after a step is the latest. */
  neededLast(models, step) {
    let best = -1;
    let latest = -1;
    for (const model of models) {
      const next = this.nextUse(model, step) || Infinity;
      if (next > latest) [best, latest] = [model, next];
    }
    return best;
  }

  #usesUntil(model, step) {
    let low = this.offsets[model];
    let high = this.offsets[model + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.uses[middle] <= step) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Stack distance of each access: 1 is the top, 0 is a first access. */
function stackDistances(models, count, before) {
  const distances = new Int32Array(models.length);
  const stack = new Int32Array(count);
  const known = new Uint8Array(count);
  let held = before.length;
  stack.set(before);
  for (const model of before) known[model] = 1;
  for (let i = 0; i < models.length; i++) {
    const model = models[i];
    let depth = held;
    if (known[model]) {
      depth = stack.indexOf(model);
      distances[i] = depth + 1;
    } else {
      known[model] = 1;
      held++;
    }
    stack.copyWithin(1, 0, depth);
    stack[0] = model;
  }
  return distances;
}

/** The steps that access each model: those of model m are uses[offsets[m]] to uses[offsets[m + 1]]. */
function usesOfModels(models, count) {
  const offsets = new Int32Array(count + 1);
  for (let i = 0; i < models.length; i++) offsets[models[i] + 1]++;
  for (let model = 0; model < count; model++) offsets[model + 1] += offsets[model];
  const uses = new Int32Array(models.length);
  const filled = offsets.slice();
  for (let i = 0; i < models.length; i++) uses[filled[models[i]]++] = i + 1;
  return [offsets, uses];
}

function loadsByLimit(distances, count) {
  const loads = new Int32Array(count + 2);
  for (let i = 0; i < distances.length; i++) loads[distances[i] || count + 1]++;
  let beyond = loads[count + 1];
  for (let limit = count; limit >= 0; limit--) {
    const here = loads[limit];
    loads[limit] = beyond;
    beyond += here;
  }
  return loads.subarray(0, count + 1);
}

/** Simulate one limit in one pass, with the stack as a linked list and its lowest held model. */
function runUnder(accesses, limit) {
  const { models, before, distances, count, length } = accesses;
  const loads = new Int32Array(length + 1);
  const evicted = new Int32Array(length + 1).fill(-1);
  const above = new Int32Array(count + 1).fill(count);
  const below = new Int32Array(count + 1).fill(count);
  const push = (model) => {
    below[model] = below[count];
    above[below[count]] = model;
    above[model] = count;
    below[count] = model;
  };
  let held = Math.min(limit, before.length);
  for (let place = held - 1; place >= 0; place--) push(before[place]);
  for (let i = 0; i < length; i++) {
    const model = models[i];
    const hit = distances[i] > 0 && distances[i] <= limit;
    loads[i + 1] = loads[i] + !hit;
    if (hit) {
      below[above[model]] = below[model];
      above[below[model]] = above[model];
    } else if (held === limit) {
      const last = above[count];
      evicted[i + 1] = last;
      above[count] = above[last];
      below[above[last]] = count;
    } else {
      held++;
    }
    push(model);
  }
  return { loads, evicted };
}

/**
 * The fewest possible loads under limits 1, 2, … (Belady, 1966), as a stack algorithm: an accessed
 * model moves to the top; the former top moves down and swaps places with every model whose next
 * use is later than its own. Memory begins with the models that LRU holds.
 */
function fewestLoads(models, count, before) {
  const end = models.length;
  const following = new Int32Array(end);
  const upcoming = new Int32Array(count).fill(end);
  for (let t = end - 1; t >= 0; t--) {
    following[t] = upcoming[models[t]];
    upcoming[models[t]] = t;
  }
  const stack = new Int32Array(count);
  const due = new Int32Array(count);
  const place = new Int32Array(count).fill(-1);
  const hits = new Int32Array(count + 1);
  let held = before.length;
  for (let k = 0; k < held; k++) {
    stack[k] = before[k];
    due[k] = upcoming[before[k]];
    place[before[k]] = k;
  }
  for (let t = 0; t < end; t++) {
    const model = models[t];
    let depth = place[model];
    if (depth < 0) depth = held++;
    else hits[depth + 1]++;
    let moving = stack[0];
    let movingDue = due[0];
    for (let k = 1; k < depth && movingDue < end; k++) {
      if (due[k] <= movingDue) continue;
      const [displaced, later] = [stack[k], due[k]];
      stack[k] = moving;
      due[k] = movingDue;
      place[moving] = k;
      [moving, movingDue] = [displaced, later];
    }
    if (depth > 0) {
      stack[depth] = moving;
      due[depth] = movingDue;
      place[moving] = depth;
    }
    stack[0] = model;
    due[0] = following[t];
    place[model] = 0;
  }
  const loads = new Int32Array(count + 1).fill(end);
  for (let limit = 1; limit <= count; limit++) loads[limit] = loads[limit - 1] - hits[limit];
  return loads;
}
