// One answer of a ranking. A card outlives its ranking: it keeps its place on the page, what is open
// and the focus, while what it says changes.

import { answer as fetchAnswer } from "./api.js";
import { confidence } from "./confidence.js";
import { discloser, el, linked, many, unique } from "./dom.js";
import { thumbs } from "./feedback.js";
import { wholeText } from "./marked.js";
import { showProblem } from "./notice.js";
import { why } from "./why.js";

/** How an answer moved since the ranking before; null where there was none. */
function moved(rank, before) {
  if (before === null) return null;
  if (before === undefined) return el("span", { class: "moved new" }, "new");
  if (before === rank) return null;
  const up = before > rank;
  const places = Math.abs(before - rank);
  return el("span", { class: `moved ${up ? "up" : "down"}` },
    el("span", { "aria-hidden": "true" }, `${up ? "▲" : "▼"}\u00a0${places}`),
    el("span", { class: "unseen" }, `${up ? "up" : "down"} ${many(places, "place")}`));
}

/**
 * @returns {{element: HTMLElement, show: (answer: object, ranking: object, before:
 *   number | null | undefined) => void}}
 */
export function card() {
  const place = el("div", { class: "place" });
  const title = el("h3", { id: unique("title") });
  const sure = el("div");
  const found = el("p", { class: "found" });
  const whole = el("div", { class: "panel whole" });
  const reasons = el("div", { class: "panel" });
  const judging = el("div", { class: "judging" });
  const said = el("div");
  let now = null;
  let loaded = null;

  function showWhole() {
    whole.replaceChildren(...wholeText(loaded, now));
    whole.querySelector("mark")?.scrollIntoView({ block: "nearest" });
  }

  async function load() {
    const { id } = now;
    if (!loaded) whole.replaceChildren(el("p", { class: "hint" }, "Fetching it …"));
    try {
      loaded = await fetchAnswer(id);
      showWhole();
    } catch (problem) {
      showProblem(whole, problem, load);
    }
  }

  const open = discloser("Whole answer", whole, load);
  const element = el("li", { class: "answer" },
    el("article", { "aria-labelledby": title.id },
      place, title, sure, found,
      el("div", { class: "acts" }, open, discloser("Why this", reasons), judging),
      said, reasons, whole));

  function show(answer, ranking, before) {
    now = answer;
    const move = moved(answer.rank, before);
    place.replaceChildren(
      el("span", { class: "rank" }, el("span", { class: "unseen" }, "Place "), answer.rank),
      ...(move ? [move] : []));
    title.replaceChildren(linked(answer.title || answer.id, answer.url));
    sure.replaceChildren(...(answer.confidence == null ? [] : [confidence(answer.confidence)]));
    found.hidden = !answer.sentence;
    found.replaceChildren(
      ...(answer.section ? [el("span", { class: "section" }, answer.section)] : []),
      el("mark", {}, answer.sentence ?? ""));
    reasons.replaceChildren(...why(answer, ranking.scale));
    if (loaded && !whole.hidden) showWhole();
    const verdict = thumbs(ranking, answer);
    judging.replaceChildren(verdict.group);
    said.replaceChildren(verdict.place);
  }

  return { element, show };
}
