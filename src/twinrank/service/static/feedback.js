// Verdicts on a question: which answer solved it, which are not right, or that none is. Each has a key
// of its own, so that one that is sent twice is stored once, and can be taken back.

import {
  $, el, fetchAnswer, folded, icon, judge, many, say, settled, showProblem, takeBack, titles, wholeText,
  wordsFor,
} from "./common.js";

const PAUSE = 200; // milliseconds of quiet before titles are asked for
const MOST_TITLES = 8;
const MOST_TRIES = 4; // of a request, in some 20 s; then what was wanted is given up

const makeKey = () => Array.from(
  crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const books = new Map(); // by question, of this page
let current = null; // of the ranking that is shown

/** Whether a verdict says what solved the question, or that nothing shown did: one does at most. */
const decides = ({ answer, right }) => right || answer === null;

/**
 * The verdicts on one question. The service is brought to hold what was wanted last, and no more: one
 * request goes after another, however fast minds change, and after a failure the same is sent again.
 */
function openBook() {
  const message = el("div");
  const there = new Set(); // at the service, or perhaps: a reply was lost
  let wanted = [];
  let agreed = wanted; // what was wanted when the service held it last
  let pressed = null; // the verdict of the last press, if it gave one
  let running = false;
  let failures = 0;
  let stopWaiting = () => {};
  const book = { ranking: null, find: (test) => wanted.find(test), press };

  const tell = (words, look = "hint") => message.replaceChildren(el("p", { class: look }, words));

  function want(verdicts) {
    wanted = verdicts;
    failures = 0;
    if (book === current) draw();
  }

  /** Gives a verdict, or takes it back if it is there; its progress is shown in a place. */
  function press(answer, right, thanks, place) {
    const { query, shown, ranker } = book.ranking;
    const same = wanted.find((one) => one.answer === answer && one.right === right);
    const body = { key: makeKey(), ...query, answer, right, shown, ranker };
    pressed = same ? null : { answer, right, thanks, body, stored: false };
    want(same ? wanted.filter((one) => one !== same) : [
      ...wanted.filter((one) => one.answer !== answer && !(decides(one) && decides(pressed))), pressed]);
    place.replaceChildren(message);
    settle();
  }

  /** Sends what brings the service nearer to what is wanted; false if there is nothing to send. */
  async function step() {
    const gone = [...there].find((one) => !wanted.includes(one));
    const sent = gone ?? wanted.find((one) => !one.stored);
    if (!sent) return false;
    const was = sent.stored;
    sent.stored = false;
    try {
      await (gone ? takeBack(sent.body.key) : judge(sent.body));
    } catch (problem) {
      if (problem.kind < 500) sent.stored = was; // it was refused, and not lost or broken off
      else there.add(sent);
      throw problem;
    }
    if (gone) there.delete(sent);
    else there.add(sent);
    sent.stored = !gone;
    return true;
  }

  async function settle() {
    if (running) return; // it will come to what is wanted now
    running = true;
    stopWaiting();
    for (let more = true; more;) {
      const aim = wanted;
      tell(pressed ? "Storing …" : "Taking it back …");
      try {
        more = await step();
        failures = 0;
      } catch (problem) {
        if (aim !== wanted) continue;
        failures += 1;
        return problem.passes && failures < MOST_TRIES ? wait(problem) : giveUp(problem);
      }
    }
    running = false;
    agreed = wanted;
    const words = pressed ? `Stored: ${pressed.thanks}. Thank you.` : "Taken back.";
    tell(words, pressed ? "good" : "hint");
    say(words);
  }

  function wait(problem) {
    running = false;
    stopWaiting = showProblem(message, problem, settle, failures);
  }

  /** Shows what was there before, and brings the service back to it. */
  async function giveUp(problem) {
    const aim = wanted;
    want(agreed);
    showProblem(message, problem, () => {
      want(aim);
      settle();
    }, Infinity);
    try {
      while (await step()); // a former verdict may have been taken back already
    } catch {
      // The next press comes back to it.
    }
    running = false;
    if (wanted !== agreed) settle(); // pressed meanwhile
  }

  return book;
}

/** Begins the verdicts on a ranking, or goes on with those on the same question. */
export function judgeRanking(ranking) {
  const question = JSON.stringify(ranking.query);
  if (!books.has(question)) books.set(question, openBook());
  current = books.get(question);
  current.ranking = ranking;
  $("#none").replaceChildren(noneOfThese(ranking));
  draw();
}

function draw() {
  for (const button of document.querySelectorAll("[data-right]")) {
    const { answer = null, right } = button.dataset;
    const there = current.find((one) => one.answer === answer && String(one.right) === right);
    button.setAttribute("aria-pressed", String(Boolean(there)));
  }
}

/** A button that says of an answer whether it is right; pressed again it takes that back. */
const verdictButton = (answer, right, look, thanks, place, ...words) => el("button", {
  type: "button", class: look, "data-answer": answer, "data-right": String(right),
  onclick: () => current.press(answer, right, thanks, place),
}, ...words);

/** What an agent says of one answer. */
export function verdictButtons(id, place) {
  const button = (right, look, glyph, words) => verdictButton(
    id, right, `thumb ${look}`, words.toLowerCase(), place, icon(glyph), words);
  return [button(true, "up", "check", "This one solved it"), button(false, "down", "close", "Not right")];
}

/** The answers that a query may mean, to choose from. */
export function options(ask) {
  const place = el("div", { class: "said" });
  const whole = el("div", { class: "panel whole" });
  async function read(id) {
    const isChosen = () => current.find((one) => one.answer === id && one.right);
    whole.replaceChildren();
    try {
      const text = isChosen() ? wholeText(await fetchAnswer(id)) : [];
      if (isChosen()) whole.replaceChildren(...text);
    } catch (problem) {
      showProblem(whole, problem, () => read(id));
    }
  }
  const buttons = ask.map(({ id, title, terms }) => verdictButton(
    id, true, "plain option", `“${title}” is meant`, place,
    el("b", {}, title), el("span", { class: "hint" }, terms.join(", "))));
  const group = el("div", { class: "row", role: "group", "aria-labelledby": "meant" }, buttons);
  ask.forEach(({ id }, i) => buttons[i].addEventListener("click", () => read(id)));
  return el("div", {}, group, place, whole);
}

/** The panel under a ranking for an answer that is not there: words of its title find it. */
function noneOfThese({ shown }) {
  const place = el("div");
  const list = el("div", { class: "titles" });
  const note = el("p", { class: "hint", role: "status" });
  const input = el("input", {
    type: "search", autocomplete: "off", placeholder: "Words of its title", maxlength: "200",
    oninput: settled(PAUSE, look),
  });
  let running = null;

  function offer(answers, words) {
    list.replaceChildren(...answers.map(({ id, title }) => verdictButton(
      id, true, "plain", `the right one is “${title}”`, place, title)));
    note.textContent = words;
    draw();
  }

  async function look() {
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    const words = input.value.trim();
    if (!words) return offer([], "");
    try {
      const { answers, total } = await titles(words, MOST_TITLES + shown.length, signal);
      if (signal.aborted) return;
      const others = answers.filter(({ id }) => !shown.includes(id));
      const above = answers.length - others.length;
      const more = total - above > MOST_TITLES ? "; type one more word" : "";
      const also = above ? `, and ${many(above, "answer")} above` : "";
      offer(others.slice(0, MOST_TITLES), `${many(total - above, "title has", "titles have")} these words${also}${more}.`);
    } catch (problem) {
      if (!signal.aborted) offer([], wordsFor(problem).join(". "));
    }
  }

  const unknown = verdictButton(null, false, "plain", "none of these", place, "I do not know which");
  const panel = el("div", { class: "panel finder" },
    el("label", {}, "The right one is", input), note, list, unknown, place);
  return folded(shown.length ? "None of these is right" : "Say which answer is right", panel, () => input.focus());
}
