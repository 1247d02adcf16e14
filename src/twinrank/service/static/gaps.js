// Topics that people ask about and that are answered badly: which article to write next.

import { el, folded, gaps, many, percent, showProblem } from "./common.js";
import { toAnswer } from "./misses.js";

function topic({ title, words, queries, bad, recent, before, examples, nearest }) {
  const sure = nearest?.confidence == null ? "" : `, ${percent(nearest.confidence)} likely right`;
  return el("li", {},
    el("div", {}, el("h3", {}, title),
      el("p", { class: "hint" }, `${bad} of ${many(queries, "query", "queries")} without a right answer`,
        recent !== null && `; ${recent} in the last 30 days, ${before} in those before`, `. Words: ${words.join(", ")}.`),
      nearest && el("p", { class: "hint" }, "Nearest answer: ", toAnswer(nearest.id, nearest.title), sure, ".")),
    folded("What was asked", el("ul", {}, examples.map((text) => el("li", { class: "text" }, text)))));
}

/** Looks for gaps, and shows them in a place. */
export async function show(place) {
  try {
    const { topics, single, left_out: older } = await gaps();
    place.replaceChildren(
      el("p", { class: "hint", role: "status" }, topics.length
        ? "Drafts of titles, the likeliest gap first. Many are topics whose article the ranker did not find: look at the nearest answer."
        : `No topic has three queries without a right answer${single ? `; ${many(single, "such query", "such queries")} stand alone` : ""}.`,
        older > 0 && ` ${many(older, "older query", "older queries")} left out.`),
      el("ol", { class: "browse misses" }, topics.map(topic)));
  } catch (problem) {
    showProblem(place, problem, () => show(place));
  }
}
