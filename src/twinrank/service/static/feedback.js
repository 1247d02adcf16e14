// Verdicts: thumbs, and "None of these: the right one is ...". Each has a key of its own, so that one
// that is sent twice is stored once, and can be taken back.

import {
  el, fetchAnswer, folded, icon, judge, many, say, settled, showProblem, takeBack, titles,
  wholeText, wordsFor,
} from "./common.js";

const PAUSE = 200; // milliseconds of quiet before titles are asked for
const MOST_TITLES = 8;

const makeKey = () => Array.from(
  crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * Has the service hold the verdict that was wanted last, and no other: one request goes after
 * another, however fast minds change, and after a failure the same is sent again.
 *
 * @param {{query: object, shown: string[], ranker: string}} ranking what is judged
 * @param {HTMLElement} place where its progress is shown
 * @param {(stored: boolean) => void} done called when it holds what is wanted, or none
 * @param {(there: object | null) => void} refused called with the verdict it has, when it will not
 *   take the one that was wanted
 * @returns {(verdict: {answer: string | null, right: boolean} | null, thanks?: string) => void}
 *   wants a verdict, and says thanks once it is stored; or wants none
 */
function keeper({ query, shown, ranker }, place, done, refused) {
  let wanted = null;
  let there = null; // at the service, or perhaps: its reply was lost
  let running = false;
  let failures = 0;
  let stopWaiting = () => {};

  const tell = (words, look = "hint") => place.replaceChildren(el("p", { class: look }, words));

  async function step() {
    if (there && there !== wanted) {
      tell("Taking it back …");
      await takeBack(there.body.key);
      there = null;
      return;
    }
    tell("Storing …");
    const sent = wanted;
    try {
      await judge(sent.body);
    } catch (problem) {
      if (!(problem.kind < 500)) there = sent; // it was not refused, but lost or broken off
      throw problem;
    }
    there = sent;
    sent.stored = true;
  }

  async function settle() {
    if (running) return; // it will come to what is wanted now
    running = true;
    stopWaiting();
    place.hidden = false;
    while (there !== wanted || wanted?.stored === false) {
      const now = wanted;
      try {
        await step();
        failures = 0;
      } catch (problem) {
        if (now !== wanted) continue;
        running = false;
        failures += 1;
        if (!problem.passes) refused(there && there.body);
        stopWaiting = showProblem(place, problem, settle, failures);
        return;
      }
    }
    running = false;
    const words = wanted?.thanks ?? "Taken back.";
    tell(words, wanted ? "good" : "hint");
    say(words);
    done(Boolean(wanted));
  }

  return (verdict, thanks) => {
    const body = { key: makeKey(), ...query, ...verdict, shown, ranker };
    wanted = verdict && { body, thanks, stored: false };
    settle();
  };
}

/** Thumbs for one answer of a ranking; one that is pressed again takes its verdict back. */
export function thumbs(ranking, { id, title }) {
  const place = el("div", { class: "said", hidden: true });
  let wanted = null;
  const press = (verdict) => both.forEach((one, i) =>
    one.setAttribute("aria-pressed", String(verdict?.right === (i === 0))));
  const keep = keeper(ranking, place, () => press(wanted), press);
  const thumb = (right, words) => el("button", {
    type: "button", class: `thumb ${right ? "up" : "down"}`, "aria-pressed": "false",
    onclick: ({ currentTarget }) => {
      const on = currentTarget.getAttribute("aria-pressed") === "false";
      wanted = on ? { answer: id, right } : null;
      press(wanted);
      keep(wanted, `Stored as ${words.toLowerCase()}. Thank you.`);
    },
  }, icon(right ? "up" : "down"), el("span", {}, words));
  const both = [thumb(true, "Right"), thumb(false, "Wrong")];
  const group = el("div", { class: "thumbs", role: "group", "aria-label": `Is “${title}” right?` }, both);
  return { group, place };
}

/** The answers that a query may mean: choosing one says it is right, again takes that back. */
export function options(ranking, ask) {
  const place = el("div", { class: "said", hidden: true });
  const whole = el("div", { class: "whole" });
  const shown = [...new Set([...ranking.shown, ...ask.map(({ id }) => id)])];
  let wanted = null;
  const press = (verdict) => buttons.forEach((button, i) =>
    button.setAttribute("aria-pressed", String(verdict?.answer === ask[i].id)));
  const keep = keeper({ ...ranking, shown }, place, () => press(wanted), press);
  async function read(id) {
    try {
      const text = wholeText(await fetchAnswer(id));
      if (wanted?.answer === id) whole.replaceChildren(...text);
    } catch (problem) {
      showProblem(whole, problem, () => read(id));
    }
  }
  const buttons = ask.map(({ id, title, terms }) => el("button", {
    type: "button", class: "plain option", "aria-pressed": "false",
    onclick: () => {
      wanted = wanted?.answer === id ? null : { answer: id, right: true };
      press(wanted);
      whole.replaceChildren();
      keep(wanted, `Stored: “${title}” is meant. Thank you.`);
      if (wanted) read(id);
    },
  }, el("b", {}, title), el("span", { class: "hint" }, terms.join(", "))));
  const group = el("div", { class: "row", role: "group", "aria-labelledby": "meant" }, buttons);
  return el("div", {}, group, place, whole);
}

/** A box that finds an answer by the words of its title; `chosen` gets it, and null while none is. */
function answerBox(chosen) {
  const note = el("p", { class: "hint", role: "status" });
  const list = el("select", { class: "titles", "aria-label": "Titles", hidden: true, onchange: choose });
  const input = el("input", {
    type: "search", autocomplete: "off", placeholder: "Words of its title", maxlength: "200",
    oninput: settled(PAUSE, look),
  });
  let found = [];
  let running = null;

  function choose() {
    chosen(found[list.selectedIndex] ?? null);
  }

  function show(answers, words) {
    found = answers;
    list.replaceChildren(...answers.map(({ title }) => el("option", {}, title)));
    list.size = Math.max(2, answers.length); // one row would be a menu
    list.selectedIndex = -1;
    list.hidden = !answers.length;
    note.textContent = words;
    choose();
  }

  async function look() {
    running?.abort();
    const words = input.value.trim();
    if (!words) return show([], "");
    running = new AbortController();
    const { signal } = running;
    try {
      const { answers, total } = await titles(words, MOST_TITLES, signal);
      if (signal.aborted) return;
      const more = total > answers.length ? "; type one more word" : "";
      show(answers, `${many(total, "title has", "titles have")} these words${more}.`);
    } catch (problem) {
      if (!signal.aborted) show([], wordsFor(problem).join(". "));
    }
  }

  return el("div", { class: "finder" }, el("label", {}, "The right one is", input), list, note);
}

/** The panel under a ranking for an answer that is not there. */
export function noneOfThese(ranking) {
  const said = el("div", { hidden: true });
  const want = keeper(ranking, said, done, enable);
  let right = null;
  const box = answerBox((answer) => {
    right = answer;
    keep.disabled = !answer;
  });
  const button = (look, words, onclick) => el("button", { type: "button", class: look, onclick }, words);
  const keep = button("main", "Store it", () =>
    put({ answer: right.id, right: true }, `Stored: the right one is “${right.title}”. Thank you.`));
  const unknown = button("quiet", "I do not know which", () =>
    put({ answer: null, right: false }, "Stored: none of these. Thank you."));
  const undo = button("quiet", "Undo", () => want(null));
  keep.disabled = true;
  const form = el("div", { class: "row" }, keep, unknown);
  const put = (verdict, thanks) => {
    keep.disabled = unknown.disabled = true;
    want(verdict, thanks);
  };
  function enable() {
    keep.disabled = !right;
    unknown.disabled = false;
  }
  function done(stored) {
    enable();
    if (stored) said.firstChild.append(" ", undo);
    panel.replaceChildren(...(stored ? [said] : [box, form, said]));
    fold.firstChild.focus(); // what had it is gone
  }
  const panel = el("div", { class: "panel" }, box, form, said);
  const words = ranking.shown.length ? "None of these is right" : "Say which answer is right";
  const fold = folded(words, panel, () => panel.querySelector("input")?.focus());
  return fold;
}
