// "None of these: the right one is ..."

import { answerBox } from "./combobox.js";
import { discloser, el } from "./dom.js";
import { keeper } from "./feedback.js";

/** The button and its panel under a ranking. */
export function noneOfThese(ranking) {
  const said = el("div", { hidden: true });
  const want = keeper(ranking, said, settled, enable);
  const keep = el("button", { type: "button", class: "main", disabled: true }, "Store it");
  let right = null;
  const box = answerBox("The right one is", (answer) => {
    right = answer;
    keep.disabled = !answer;
  });
  const unknown = el("button", { type: "button", class: "quiet" }, "I do not know which");
  const form = el("div", { class: "row" }, keep, unknown);
  const undo = el("button", { type: "button", class: "quiet", onclick: () => want(null) }, "Undo");
  const put = (verdict, thanks) => {
    keep.disabled = unknown.disabled = true;
    want(verdict, thanks);
  };
  function enable() {
    keep.disabled = !right;
    unknown.disabled = false;
  }
  function settled(stored) {
    enable();
    if (stored) said.firstChild.append(" ", undo);
    panel.replaceChildren(...(stored ? [said] : [box, form, said]));
    button.focus(); // what had it is gone
  }
  keep.addEventListener("click", () =>
    put({ answer: right.id, right: true }, `Stored: the right one is “${right.title}”. Thank you.`));
  unknown.addEventListener("click", () =>
    put({ answer: null, right: false }, "Stored: none of these. Thank you."));
  const panel = el("div", { class: "panel" }, box, form, said);
  const words = ranking.shown.length ? "None of these is right" : "Say which answer is right";
  const button = discloser(words, panel, () => panel.querySelector("input")?.focus());
  return [button, panel];
}
