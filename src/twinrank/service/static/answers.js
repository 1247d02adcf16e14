// The ranking: its heading, and its answers in their order: how sure they are, why, and what to do
// with them.

import {
  $, el, fetchAnswer, folded, linked, many, percent, say, showProblem, webAddress, wholeText,
} from "./common.js";
import { judgeRanking, options, verdictButtons } from "./feedback.js";

const SURE = 0.5; // from here on an answer is rather right than wrong
const UNLIKELY = 0.25; // below, it is folded away, unless it is the first
const LIKELY = [[0.8, "Very likely right"], [SURE, "Likely right"], [UNLIKELY, "May be right"], [0, "Unlikely to be right"]];

/** A probability as a meter, with a word and a number for it. */
function confidence(value) {
  const share = value > 0.99 ? "over 99%" : value < 0.01 ? "under 1%" : percent(value);
  const words = `${LIKELY.find(([least]) => value >= least)[1]}, ${share}`;
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
const ALIKE = 0.05; // of the bars' range: a smaller difference is none

/** What each channel says for an answer, beside the others shown: bars, whose titles have numbers. */
function bars({ channels }, others) {
  const values = others.flatMap((other) => Object.values(other.channels ?? {}));
  const [min, max] = [Math.min(0, ...values), Math.max(1e-9, ...values)];
  return el("dl", { class: "channels" }, Object.entries(channels).map(([name, value]) => {
    const mean = others.reduce((sum, other) => sum + (other.channels?.[name] ?? 0), 0) / others.length;
    const ahead = (value - mean) / (max - min);
    const words = `${ahead > ALIKE ? "more than" : ahead < -ALIKE ? "less than" : "like"} the others`;
    return el("div", { class: "channel", title: `${value.toFixed(2)}; on average ${mean.toFixed(2)}` },
      el("dt", {}, NAMES[name] ?? name),
      el("dd", {}, el("meter", { "aria-hidden": "true", min, max, value }), others.length > 1 && words));
  }));
}

function pastQuery({ id, text, similarity }) {
  const words = similarity >= 0.5 ? "Much like yours" : "A little like yours";
  const like = el("p", { class: "hint", title: `Similarity ${similarity.toFixed(2)}` }, `${words} `, id && el("code", {}, id));
  if (text == null) return el("li", {}, like);
  const quote = el("blockquote", {}, text);
  const whole = text.length <= LONG ? quote : folded(`${text.slice(0, LONG)} …`, quote);
  return el("li", {}, whole, like);
}

/** The panel's content for one answer. */
function why(answer, answers) {
  const hint = (...words) => el("p", { class: "hint" }, ...words);
  const past = answer.past_queries ?? [];
  const solved = `It solved ${many(answer.solved ?? past.length, "past query", "past queries")}. Most like yours:`;
  const words = answer.words ?? [];
  return el("div", { class: "panel" },
    el("h4", {}, "What speaks for it"),
    answer.channels ? bars(answer, answers) : hint("This ranker compares in one way alone."),
    words.length > 0 && hint("Your words that speak for it: ", el("b", {}, words.join(", ")), "."),
    el("h4", {}, "Past queries that this answer solved"),
    hint(past.length ? solved : "None yet."),
    past.length > 0 && el("ul", { class: "past" }, past.map(pastQuery)),
    past.some(({ text }) => text == null) && hint("What people wrote is not shown here."));
}

/** Puts a text on the clipboard; in the old way where a page may not, as over plain http. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const box = el("textarea", { class: "unseen", "aria-hidden": "true" }, text);
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    focused?.focus({ preventScroll: true });
    return done;
  }
}

const COPIED = 2_000; // milliseconds for which a button says so

const copyButton = (words, text) => el("button", {
  type: "button", class: "quiet", onclick: async ({ currentTarget: button }) => {
    button.style.minWidth = `${button.offsetWidth}px`; // so that nothing moves
    const done = await copy(text);
    button.textContent = done ? "Copied" : "Not copied";
    say(done ? "Copied." : "Not copied. Select the text, and copy it by hand.");
    setTimeout(() => (button.textContent = words), COPIED);
  },
}, words);

/** What of an answer can be put into a reply. */
function copyButtons({ title, url, sentence }) {
  const link = webAddress(url);
  return [
    copyButton("Copy for reply", [title, sentence, link].filter(Boolean).join("\n")),
    sentence && copyButton("Copy sentence", sentence),
    link && copyButton("Copy link", link),
  ].filter(Boolean);
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
  const copies = el("div", { class: "copies" });
  const said = el("div", { class: "said" });
  const judging = el("div", { class: "thumbs", role: "group" }, verdictButtons(id, said));
  let best = null;

  async function load() {
    try {
      whole.replaceChildren(...wholeText(await fetchAnswer(id), best));
    } catch (problem) {
      showProblem(whole, problem, load);
    }
  }

  const fold = folded("Whole answer", whole, async () => {
    await load();
    whole.querySelector("mark")?.scrollIntoView({ block: "nearest" });
  });
  const acts = el("div", { class: "acts" }, fold, folded("Why this", reasons), judging);
  const element = el("li", { class: "answer", tabindex: "-1" }, head, copies, acts, said);

  function show(answer, answers, before) {
    best = answer;
    const isFolded = answer.rank > 1 && answer.confidence != null && answer.confidence < UNLIKELY;
    const isUsed = element.matches(":focus-within, :has([open], [aria-pressed=true])");
    element.setAttribute("aria-label", `Answer ${answer.rank}: ${answer.title || id}`);
    element.classList.toggle("unlikely", isFolded && !isUsed);
    element.classList.toggle("first", answer.rank === 1);
    head.replaceChildren(
      el("div", { class: "place" },
        el("span", { class: "rank" }, el("span", { class: "unseen" }, "Place "), answer.rank),
        moved(answer.rank, before)),
      el("h3", {}, linked(answer.title || id, answer.url)),
      ...(answer.pinned ? [el("p", { class: "hint" }, `Pinned for “${answer.pinned}”`)]
        : answer.confidence == null ? [] : [confidence(answer.confidence)]),
      ...(answer.sentence ? [el("p", { class: "found" },
        answer.section && el("span", { class: "section" }, answer.section),
        el("span", {}, answer.sentence))] : []));
    reasons.replaceChildren(why(answer, answers));
    copies.replaceChildren(...copyButtons(answer));
    judging.setAttribute("aria-label", `Is “${answer.title || id}” right?`);
    said.replaceChildren();
    if (fold.open) load();
  }

  return { element, show };
}

const cards = new Map(); // by answer id, of the ranking that is shown
let places = new Map(); // rank by answer id

/** Folds the unlikely answers behind a button that says how many they are, or shows them. */
function foldUnlikely(isFolded = areFolded()) {
  const number = document.querySelectorAll("#answers > .unlikely").length;
  $("#answers").classList.toggle("folded", isFolded);
  $("#more").hidden = !number;
  $("#more").ariaExpanded = String(!isFolded);
  $("#more").textContent = isFolded ? `${number} more, unlikely` : `Fold ${number} unlikely`;
}

const areFolded = () => $("#answers").classList.contains("folded");
$("#more").onclick = () => foldUnlikely(!areFolded());

/** Goes to an answer by its place, from 1, and opens it. */
export function goTo(rank, { open = true } = {}) {
  const element = $("#answers").children[rank - 1];
  if (!element) return;
  if (element.matches(".folded > .unlikely")) foldUnlikely(false);
  element.focus();
  if (open) element.querySelector("details").open = true;
}

/** Forgets the ranking, so that the next one has nothing to be compared with. */
export function clear() {
  cards.clear();
  places = new Map();
  for (const place of ["#answers", "#none", "#verdict"]) $(place).replaceChildren();
  foldUnlikely(true);
}

/** Title, and advice where there is any, for a ranking. */
function wordsOf({ answers, ask, confidence }) {
  if (ask.length) return ["Which of these is meant?", "Ask which one, then choose it. A few more words of the question may help too."];
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

/** Shows the service's reply to a query, called `words` on the page, that may follow the one before. */
export function show(reply, { query, words, follows }) {
  const { answers, ask } = reply;
  const ids = answers.map((answer) => answer.id);
  const shown = [...new Set([...ids, ...ask.map(({ id }) => id)])];
  const before = follows && places.size ? places : null;
  const [title, advice] = wordsOf(reply);
  $("#verdict").replaceChildren(el("h2", { id: "meant" }, title),
    el("p", { class: "hint" }, "For ", el("q", {}, words)), el("p", { class: "hint" }, advice),
    ...(ask.length ? [options(ask)] : []));
  arrange($("#answers"), ids);
  judgeRanking({ query, shown, ranker: reply.ranker });
  for (const answer of answers) {
    cards.get(answer.id).show(answer, answers, before && before.get(answer.id));
  }
  places = new Map(answers.map((answer) => [answer.id, answer.rank]));
  foldUnlikely();
  say(answers.length ? `${title}. First: ${answers[0].title}.` : `${title}.`);
}
