// The ranking: its heading, and its answers in their order, with how sure they are and why.

import {
  $, answer as fetchAnswer, discloser, el, linked, many, percent, say, showProblem, unique, wholeText,
} from "./common.js";
import { noneOfThese, thumbs } from "./feedback.js";

const SURE = 0.5; // from here on an answer is rather right than wrong

/** A probability as a meter, with its number and a word for it. */
function confidence(value) {
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
const sure = (value) =>
  value >= 0.8 ? "very likely right"
    : value >= SURE ? "likely right"
      : value >= 0.25 ? "may be right"
        : "unlikely to be right";

const NAMES = {
  dense: "Meaning",
  past: "Similar past queries",
  "past words": "Words of past queries",
  prior: "How often it was right",
  words: "Words of the answer",
};
const LONG = 220; // characters of a past query that are shown at once

/** Mean of each channel over the answers of a ranking, and the range of all values and zero. */
function channelScale(answers) {
  const parts = answers.map((answer) => answer.channels).filter(Boolean);
  const names = Object.keys(parts[0] ?? {});
  const values = (name) => parts.map((part) => part[name] ?? 0);
  const mean = (name) => values(name).reduce((sum, value) => sum + value, 0) / parts.length;
  return {
    names,
    means: Object.fromEntries(names.map((name) => [name, mean(name)])),
    low: Math.min(0, ...names.flatMap(values)),
    high: Math.max(1e-9, ...names.flatMap(values)),
    compared: parts.length > 1,
  };
}

const rounded = (value) => Math.abs(value).toFixed(2);
const signed = (value) => `${["+", "±", "−"][rounded(value) === "0.00" ? 1 : value > 0 ? 0 : 2]}${rounded(value)}`;
const named = (name) => NAMES[name] ?? name;

function bar(name, value, { means, low, high, compared }) {
  const place = (amount) => `${((100 * (amount - low)) / (high - low)).toFixed(1)}%`;
  const fill = el("span", { class: value < 0 ? "fill below" : "fill" });
  fill.style.insetInlineStart = place(Math.min(0, value));
  fill.style.inlineSize = `calc(${place(Math.max(0, value))} - ${place(Math.min(0, value))})`;
  const average = compared && el("span", { class: "average" });
  if (average) average.style.insetInlineStart = place(means[name]);
  return el("div", { class: "channel" },
    el("dt", {}, named(name)),
    el("dd", {},
      el("span", { class: "track", "aria-hidden": "true" }, fill, average),
      el("span", { class: "value" }, value.toFixed(2)),
      compared && el("span", { class: "value soft" }, signed(value - means[name]))));
}

/** The channel that sets this answer most apart from the others shown, in words. */
function inWords(channels, { names, means, compared }) {
  if (!compared) return "What each channel gave to its score.";
  const ahead = (name) => (channels[name] ?? 0) - means[name];
  const most = names.reduce((best, name) => (ahead(name) > ahead(best) ? name : best));
  return ahead(most) > 0
    ? `What speaks for it most, compared with the answers shown: ${named(most).toLowerCase()}.`
    : "No channel gave it more than the average of the answers shown.";
}

function pastQuery({ id, text, similarity }) {
  const like = `Similarity ${similarity.toFixed(2)} `;
  if (text == null) return el("li", { class: "hint" }, like, id && el("code", {}, id));
  const short = text.length <= LONG;
  const cut = short ? text : `${text.slice(0, LONG).replace(/\s+\S*$/, "")} …`;
  const quote = el("blockquote", { tabindex: "-1" }, cut);
  const more = !short && el("button", {
    type: "button", class: "quiet", onclick: () => {
      quote.textContent = text;
      quote.focus(); // the button that had it goes
      more.remove();
    },
  }, "Show all of it");
  return el("li", {}, quote, el("p", { class: "hint" }, like, more));
}

/** The panel's content for one answer. */
function why(answer, scale) {
  const parts = [];
  if (answer.channels) {
    parts.push(
      el("h4", {}, "Channels"), el("p", { class: "hint" }, inWords(answer.channels, scale)),
      el("dl", { class: "channels" },
        scale.names.map((name) => bar(name, answer.channels[name] ?? 0, scale))),
      scale.compared && el("p", { class: "hint" },
        "The line in a bar, and the second number, compare with the average of the answers shown."));
  } else {
    parts.push(el("p", { class: "hint" }, `Its score is ${answer.score.toFixed(2)}, from one channel.`));
  }
  parts.push(el("h4", {}, "Past queries that this answer solved"));
  const past = answer.past_queries ?? [];
  const [most, hidden] = [past.length, past.some(({ text }) => text == null)];
  const solved = `It solved ${many(answer.solved ?? most, "past query", "past queries")}. `;
  const nearest = most === 1 ? "The one most like yours:" : `The ${most} most like yours:`;
  parts.push(
    el("p", { class: "hint" }, most ? solved + nearest : "None yet."),
    most > 0 && el("ul", { class: "past" }, past.map(pastQuery)),
    hidden && el("p", { class: "hint" }, "What people wrote is not shown here."));
  return parts.filter(Boolean);
}

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
function card() {
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
