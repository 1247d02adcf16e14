// The queries that went wrong: what was asked, what was shown for it, and what people said.

import { el, folded, many, misses, showProblem } from "./common.js";
import { LONG } from "./charts.js";

const LONG_TEXT = 220; // characters of a query that are shown at once
const PAGE = 5; // queries that are asked for at once

const named = (what) => (id, words) => el("a", { href: `#${new URLSearchParams({ [what]: id })}` }, words || id);
/** Links to an answer among all, and to the queries for which it was wrong; without an id to all. */
export const toAnswer = named("answer");
export const toMisses = named("misses");

function missed({ text, type, date, shown, wrong, right }, titles) {
  const mark = (id) => right.includes(id) ? el("b", { class: "good" }, " right")
    : wrong.includes(id) && el("b", { class: "bad" }, " wrong");
  const answer = (id) => el("li", {}, id in titles ? toAnswer(id, titles[id]) : id, mark(id));
  const beyond = right.filter((id) => !shown?.includes(id));
  const quote = el("blockquote", { class: "text" }, text);
  return el("li", {},
    el("div", {}, text.length > LONG_TEXT ? folded(`${text.slice(0, LONG_TEXT)} …`, quote) : quote,
      el("p", { class: "hint" }, `${type || "no type"}, ${LONG.format(Date.parse(date))}`,
        !wrong.length && !right.length && ". None of the answers shown was right.")),
    el("div", {}, el("ol", {}, (shown ?? wrong).map(answer)),
      ...(beyond.length ? [el("p", { class: "hint" }, "Right, and not shown:"), el("ul", {}, beyond.map(answer))] : [])));
}

/** The section of misses, and what shows those of some days, or of one answer. */
export function missList() {
  const list = el("ul", { class: "browse misses" });
  const note = el("p", { class: "hint", role: "status" });
  const trouble = el("div", { hidden: true });
  const more = el("button", { type: "button", class: "plain", hidden: true, onclick: () => load(list.children.length) }, "Show more");
  const title = el("h2", { id: "misses-title", tabindex: "-1" }, "Queries that went wrong");
  const section = el("section", { class: "box", "aria-labelledby": "misses-title" }, title, note, trouble, list, more);
  let asked = { days: 30 };

  async function load(offset = 0) {
    const now = asked;
    try {
      const { misses: found, titles, total } = await misses({ ...now, limit: PAGE, offset });
      if (now !== asked) return;
      section.hidden = false;
      trouble.hidden = true;
      if (!offset) list.replaceChildren();
      list.append(...found.map((miss) => missed(miss, titles)));
      more.hidden = list.children.length >= total;
      const { answer } = now;
      note.replaceChildren(...(answer
        ? [`${many(total, "query", "queries")} for which “`, toAnswer(answer, titles[answer]),
          "” was wrong, or right and not shown. ", toMisses("", "All queries")]
        : [total ? `${many(total, "query", "queries")}, the newest first; no right answer was shown.` : "None in these days."]));
    } catch (problem) {
      section.hidden = problem.kind === 403; // the page says so above
      if (now === asked) showProblem(trouble, problem, () => load(offset));
    }
  }

  return {
    section, title,
    show(change) {
      asked = { ...asked, ...change };
      if (!asked.answer) delete asked.answer;
      return load();
    },
  };
}
