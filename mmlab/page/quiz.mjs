/** The quiz: it asks "hit or miss?" before each step, and "which one goes?" before an eviction. */

import { $, chip, element, listOf } from "./view.mjs";
import { named, pieces, say } from "./texts.mjs";

export class Quiz {
  constructor(view) {
    this.view = view;
    this.on = false;
    this.phase = null; // "hit", "which", or null without a question
    this.verdict = null;
    this.right = 0;
    this.asked = 0;
  }

  get isAsking() {
    return this.phase !== null;
  }

  toggle() {
    this.on = !this.on;
    this.verdict = null;
    this.right = this.asked = 0;
    this.phase = null;
    if (this.on) this.ask();
    else this.view.render();
  }

  /** Ask about the next step. */
  ask() {
    this.verdict = null;
    this.phase = this.view.step < this.view.manager.length ? "hit" : null;
    this.view.render();
  }

  /** Ask a new question after a jump to another step. */
  moved() {
    this.verdict = null;
    this.phase = this.on && this.view.step < this.view.manager.length ? "hit" : null;
  }

  /** Handle the key →: show the answer without a score, then ask the next question. */
  forward() {
    if (this.isAsking) this.#reveal(null);
    else this.ask();
  }

  about(step) {
    const { manager } = this.view;
    const { right, asked } = this;
    return say("quiz_about", { n: manager.numberOf(step), total: manager.total, right, asked });
  }

  answerHit(isHit) {
    const { shown, step } = this.view;
    if (this.phase !== "hit") return;
    const next = step + 1;
    const right = isHit === !shown.isMiss(next);
    const asksMore = shown.isMiss(next) && shown.evicted(next).length === 1 &&
      shown.stack(step).held.length > 1;
    this.#score(right);
    if (!asksMore) return this.#reveal(right);
    this.phase = "which";
    this.verdict = right ? "quiz_which_right" : "quiz_which_wrong";
    return this.view.render();
  }

  answerWhich(model) {
    if (this.phase !== "which") return;
    const right = this.view.shown.evicted(this.view.step + 1).includes(model);
    this.#score(right);
    this.#reveal(right);
  }

  #score(right) {
    this.asked++;
    if (right) this.right++;
  }

  #reveal(right) {
    this.phase = null;
    this.verdict = right === null ? null : right ? "quiz_right" : "quiz_wrong";
    this.view.show(this.view.step + 1);
  }

  /** Handle the keys h, m and the letters of models. Returns whether the key was an answer. */
  key(key) {
    if (this.phase === "hit" && (key === "h" || key === "m")) this.answerHit(key === "h");
    else if (this.phase === "which") {
      const model = this.#candidates().find((each) =>
        this.view.looks[each].letter.toLowerCase() === key
      );
      if (model === undefined) return false;
      this.answerWhich(model);
    } else return false;
    return true;
  }

  #candidates() {
    return [...this.view.shown.stack(this.view.step).held].sort((a, b) => a - b);
  }

  draw() {
    const { view } = this;
    const { manager, looks, step } = view;
    const next = step + 1;
    const model = chip(looks[manager.modelOf(next)]);
    const keys = listOf(manager.keysOf(next).map(named), 3);
    const which = this.phase === "which";
    const headline = which
      ? [say(this.verdict)]
      : pieces(keys ? "quiz_ask" : "quiz_ask_plain", { keys, model });
    const answers = which
      ? this.#candidates().slice(0, 26).map((each) =>
        this.#answer(
          [chip(looks[each])],
          looks[each].letter.toLowerCase(),
          () => this.answerWhich(each),
        )
      )
      : [
        this.#answer([say("quiz_hit")], "h", () => this.answerHit(true)),
        this.#answer([say("quiz_miss")], "m", () => this.answerHit(false)),
      ];
    const place = $("sentence");
    place.replaceChildren(
      element("p", { class: "about" }, this.about(next)),
      element("h2", {}, ...headline),
      element("p", { class: "answers" }, ...answers),
    );
    return place.querySelector("h2").textContent;
  }

  #answer(content, key, onclick) {
    return element(
      "button",
      { type: "button", class: "answer", onclick },
      ...content,
      " ",
      element("kbd", {}, key),
    );
  }
}
