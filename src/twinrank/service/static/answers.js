// The ranking: its heading, and its answers in their order, with how sure they are and why.

import { $, el, fetchAnswer, folded, linked, many, percent, say, showProblem, wholeText } from "./common.js";
import { noneOfThese, options, thumbs } from "./feedback.js";

const SURE = 0.5; // from here on an answer is rather right than wrong

/** What a probability is called. */
const sure = (value) =>
  value >= 0.8 ? "very likely right"
    : value >= SURE ? "likely right"
      : value >= 0.25 ? "may be right"
        : "unlikely to be right";

/** A probability as a meter, with its number and a word for it. */
function confidence(value) {
  const words = `${percent(value)} ${sure(value)}`;
  const meter = el("meter", { "aria-label": "Confidence", low: SURE, optimum: 1, value: value.toFixed(2) }, words);
  return el("div", { class: "confidence" }, meter, words);
}

const NAMES = {
  dense: "Meaning",
  past: "Similar past queries",
  prior: "How often it was right",
  classifier: "Words of past queries",
  words: "Words of the answer",
};
const LONG = 220; // characters of a past query that are shown at once
const signed = new Intl.NumberFormat("en", {
  signDisplay: "exceptZero", minimumFractionDigits: 2, maximumFractionDigits: 2,
});

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

function bar(name, value, { means, low, high, compared }) {
  return el("div", { class: "channel" },
    el("dt", {}, NAMES[name] ?? name),
    el("dd", {},
      el("meter", { "aria-hidden": "true", min: low, max: high, value }),
      el("span", { class: "value" }, value.toFixed(2)),
      compared && el("span", { class: "value soft" }, signed.format(value - means[name]))));
}

/** The channel that sets this answer most apart from the others shown, in words. */
function inWords(channels, { names, means, compared }) {
  if (!compared) return "What each channel gave to its score.";
  const ahead = (name) => (channels[name] ?? 0) - means[name];
  const most = names.reduce((best, name) => (ahead(name) > ahead(best) ? name : best));
  return ahead(most) > 0
    ? `What speaks for it most, compared with the answers shown: ${(NAMES[most] ?? most).toLowerCase()}.`
    : "No channel gave it more than the average of the answers shown.";
}

function pastQuery({ id, text, similarity }) {
  const like = el("p", { class: "hint" }, `Similarity ${similarity.toFixed(2)} `, id && el("code", {}, id));
  if (text == null) return el("li", {}, like);
  const quote = el("blockquote", {}, text);
  const whole = text.length <= LONG ? quote : folded(`${text.slice(0, LONG)} …`, quote);
  return el("li", {}, whole, like);
}

/** The panel's content for one answer. */
function why(answer, scale) {
  const hint = (...words) => el("p", { class: "hint" }, ...words);
  const channels = answer.channels
    ? [el("h4", {}, "Channels"), hint(inWords(answer.channels, scale)),
      el("dl", { class: "channels" },
        scale.names.map((name) => bar(name, answer.channels[name] ?? 0, scale))),
      ...(scale.compared ? [hint("The second number compares with the average of the answers shown.")] : [])]
    : [hint(`Its score is ${answer.score.toFixed(2)}, from one channel.`)];
  const past = answer.past_queries ?? [];
  const solved = `It solved ${many(answer.solved ?? past.length, "past query", "past queries")}. Most like yours:`;
  const words = answer.words ?? [];
  return el("div", { class: "panel" }, channels,
    words.length > 0 && hint("Your words that speak for it: ", el("b", {}, words.join(", ")), "."),
    el("h4", {}, "Past queries that this answer solved"),
    hint(past.length ? solved : "None yet."),
    past.length > 0 && el("ul", { class: "past" }, past.map(pastQuery)),
    past.some(({ text }) => text == null) && hint("What people wrote is not shown here."));
}

/** How an answer moved since the ranking before; null where there was none. */
function moved(rank, before) {
  if (before === null || before === rank) return null;
  if (before === undefined) return el("span", { class: "moved new" }, "new");
  const up = before > rank;
  const places = Math.abs(before - rank);
  return el("span", { class: `moved ${up ? "up" : "down"}` },
    el("span", { "aria-hidden": "true" }, `${up ? "▲" : "▼"}\u00a0${places}`),
    el("span", { class: "unseen" }, `${up ? "up" : "down"} ${many(places, "place")}`));
}

/** The element of one answer, and what shows it in a ranking: what is open stays so. */
function card(id) {
  const head = el("div", { class: "gist" });
  const whole = el("div", { class: "panel whole" });
  const reasons = el("div");
  const judging = el("div", { class: "judging" });
  const said = el("div");
  let best = null;

  async function load() {
    try {
      whole.replaceChildren(...wholeText(await fetchAnswer(id), best));
    } catch (problem) {
      showProblem(whole, problem, load);
    }
  }

  const fold = folded("Whole answer", whole, load);
  const acts = el("div", { class: "acts" }, fold, folded("Why this", reasons), judging);
  const element = el("li", { class: "answer" }, head, acts, said);

  function show(answer, ranking, before) {
    best = answer;
    head.replaceChildren(
      el("div", { class: "place" },
        el("span", { class: "rank" }, el("span", { class: "unseen" }, "Place "), answer.rank),
        moved(answer.rank, before)),
      el("h3", {}, linked(answer.title || id, answer.url)),
      ...(answer.confidence == null ? [] : [confidence(answer.confidence)]),
      ...(answer.sentence ? [el("p", { class: "found" },
        answer.section && el("span", { class: "section" }, answer.section),
        el("mark", {}, answer.sentence))] : []));
    reasons.replaceChildren(why(answer, ranking.scale));
    if (fold.open) load();
    const verdict = thumbs(ranking, answer);
    judging.replaceChildren(verdict.group);
    said.replaceChildren(verdict.place);
  }

  return { element, show };
}

const cards = new Map(); // by answer id, of the ranking that is shown
let places = new Map(); // rank by answer id

/** Forgets the ranking, so that the next one has nothing to be compared with. */
export function clear() {
  cards.clear();
  places = new Map();
  for (const place of ["#answers", "#none", "#verdict"]) $(place).replaceChildren();
}

/** Title, and advice where there is any, for a ranking. */
function wordsOf({ answers, ask, confidence, withheld }) {
  if (ask.length) return ["Which of these is meant?", "Ask for it, and choose. A few more words may help too."];
  if (withheld) {
    const best = confidence == null ? "" : `The best answer is only ${percent(confidence)} likely to be right. `;
    return ["Nothing sure enough to show",
      `${best}Add what was seen or tried, or lower “Only if at least” in the options.`];
  }
  if (!answers.length) return ["No answer found", "None fits “Only where” in the options, or what this key may see."];
  if (confidence != null && confidence < SURE) {
    return ["Not sure about these", "A few more words about what was seen or tried may help."];
  }
  return [answers.length === 1 ? "Best answer" : "Best answers", ""];
}

/** Puts cards in order, moving only those out of it: a card that is not moved keeps the focus. */
function arrange(list, ids) {
  const focused = document.activeElement;
  for (const [id, { element }] of cards) {
    if (ids.includes(id)) continue;
    element.remove();
    cards.delete(id);
  }
  ids.forEach((id, i) => {
    if (!cards.has(id)) cards.set(id, card(id));
    const { element } = cards.get(id);
    if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null);
  });
  if (focused?.isConnected) focused.focus({ preventScroll: true });
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
  const [title, advice] = wordsOf(reply);
  $("#verdict").replaceChildren(el("h2", { id: "meant" }, title),
    el("p", { class: "hint" }, "For ", el("q", {}, words)), el("p", { class: "hint" }, advice),
    ...(reply.ask.length ? [options(ranking, reply.ask)] : []));
  arrange($("#answers"), shown);
  for (const answer of answers) {
    cards.get(answer.id).show(answer, ranking, before && before.get(answer.id));
  }
  places = new Map(answers.map((answer) => [answer.id, answer.rank]));
  $("#none").replaceChildren(noneOfThese(ranking));
  say(answers.length ? `${title}. First: ${answers[0].title}.` : `${title}.`);
}
