// How sure the ranker is, in a number, a bar and words.

import { el, percent } from "./dom.js";

export const SURE = 0.5; // from here on an answer is rather right than wrong

/** A probability as a meter, with its number and a word for it. */
export function confidence(value) {
  const words = sure(value);
  const fill = el("span", { class: `fill ${value >= SURE ? "sure" : "unsure"}` });
  fill.style.inlineSize = `${100 * value}%`;
  return el("div", { class: "confidence" },
    el("span", {
      class: "track", role: "meter", "aria-label": "Confidence", "aria-valuemin": "0",
      "aria-valuemax": "1", "aria-valuenow": value.toFixed(2),
      "aria-valuetext": `${percent(value)}, ${words}`,
    }, fill),
    el("span", {}, el("strong", {}, percent(value)), ` ${words}`));
}

/** What a probability is called. */
export const sure = (value) =>
  value >= 0.8 ? "very likely right"
    : value >= SURE ? "likely right"
      : value >= 0.25 ? "may be right"
        : "unlikely to be right";
