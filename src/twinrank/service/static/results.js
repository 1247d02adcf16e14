// The ranking: its heading, its answers in their order, and what to do when none of them is right.

import { card } from "./card.js";
import { SURE, sure } from "./confidence.js";
import { $, el, many, percent, say } from "./dom.js";
import { noneOfThese } from "./none.js";
import { channelScale } from "./why.js";

const MOVE = { duration: 320, easing: "cubic-bezier(.2, .7, .2, 1)" };
const still = matchMedia("(prefers-reduced-motion: reduce)");

const cards = new Map(); // by answer id, of the ranking that is shown
let places = new Map(); // rank by answer id

/** Forgets the ranking, so that the next one has nothing to be compared with. */
export function clear() {
  cards.clear();
  places = new Map();
  $("#answers").replaceChildren();
  $("#none").replaceChildren();
  $("#verdict").replaceChildren();
}

function heading({ answers, confidence, withheld }, shownFor) {
  const hint = (...words) => el("p", { class: "hint" }, ...words);
  const about = hint("For ", el("q", {}, shownFor));
  if (withheld) {
    return [el("h2", {}, "Nothing sure enough to show"), about, hint(
      confidence == null ? "" : `The best answer is only ${percent(confidence)} likely to be right. `,
      "Add what was seen or tried, or lower “Only if at least” in the options.")];
  }
  if (!answers.length) {
    return [el("h2", {}, "No answer found"), about, hint("Try other words, or more of them.")];
  }
  if (confidence != null && confidence < SURE) {
    return [el("h2", {}, "Not sure about these"), about,
      hint("A few more words about what was seen or tried may help.")];
  }
  return [el("h2", {}, answers.length === 1 ? "Best answer" : "Best answers"), about];
}

function spoken({ answers, confidence, withheld }) {
  if (withheld) return "Nothing sure enough to show.";
  if (!answers.length) return "No answer found.";
  const how = confidence == null ? "" : `, ${percent(confidence)}, ${sure(confidence)}`;
  return `${many(answers.length, "answer")}. First: ${answers[0].title}${how}.`;
}

/** Where each card is now, to let it glide from there. */
const tops = () =>
  new Map([...cards].map(([id, { element }]) => [id, element.getBoundingClientRect().top]));

function glide(from) {
  if (still.matches) return;
  for (const [id, { element }] of cards) {
    const by = from.has(id) ? from.get(id) - element.getBoundingClientRect().top : 0;
    if (by) element.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], MOVE);
    else if (!from.has(id)) element.animate([{ opacity: 0 }, { opacity: 1 }], MOVE);
  }
}

/** Puts cards in order, moving only those out of it: a card that is not moved keeps the focus. */
function arrange(list, ids) {
  const wanted = new Set(ids);
  for (const [id, { element }] of cards) {
    if (wanted.has(id)) continue;
    element.remove();
    cards.delete(id);
  }
  const focused = document.activeElement;
  ids.forEach((id, i) => {
    if (!cards.has(id)) cards.set(id, card());
    const { element } = cards.get(id);
    if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null);
  });
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/**
 * @param {object} reply of the service
 * @param {{query: object, words: string, follows: boolean}} asked the query; what it is called on
 *   the page; whether it goes on from the one before, so that moves mean something
 */
export function show(reply, { query, words, follows }) {
  const { answers } = reply;
  const shown = answers.map((answer) => answer.id);
  const ranking = { query, shown, ranker: reply.ranker, scale: channelScale(answers) };
  const before = follows && places.size ? places : null;
  const from = tops();
  $("#verdict").replaceChildren(...heading(reply, words));
  arrange($("#answers"), shown);
  for (const answer of answers) {
    cards.get(answer.id).show(answer, ranking, before && before.get(answer.id));
  }
  glide(from);
  places = new Map(answers.map((answer) => [answer.id, answer.rank]));
  $("#none").replaceChildren(...noneOfThese(ranking));
  say(spoken(reply));
}
