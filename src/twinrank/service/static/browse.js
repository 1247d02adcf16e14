// All answers, found by the words of their titles and read where they stand.

import { answer as fetchAnswer, titles } from "./api.js";
import { discloser, el, linked, many, settled } from "./dom.js";
import { wholeText } from "./marked.js";
import { showProblem } from "./notice.js";

const PAUSE = 200; // milliseconds of quiet before titles are asked for
const AT_ONCE = 20;
const MOST = 100; // that the service lists

function row({ id, title, url }) {
  const panel = el("div", { class: "panel" });
  const load = async () => {
    try {
      const found = await fetchAnswer(id);
      panel.replaceChildren(
        el("p", { class: "hint" }, linked(id, url)), ...wholeText(found, {}, "h3"));
    } catch (problem) {
      showProblem(panel, problem, load);
    }
  };
  return el("li", {}, discloser(title || id, panel, load), panel);
}

/** The section that browses answers. */
export function browser() {
  const list = el("ul", { class: "browse" });
  const note = el("p", { class: "hint", role: "status" });
  const more = el("button", { type: "button", class: "plain", hidden: true }, "Show more");
  const trouble = el("div", { hidden: true });
  let running = null;
  let shown = AT_ONCE;

  async function look() {
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    try {
      const { answers, total } = await titles(input.value.trim(), shown, signal);
      if (signal.aborted) return;
      trouble.hidden = true;
      list.replaceChildren(...answers.map(row));
      more.hidden = answers.length >= total || shown === MOST;
      note.textContent = total > answers.length
        ? `${answers.length} of ${many(total, "answer")}${shown === MOST ? "; words find the others" : ""}`
        : many(total, "answer");
    } catch (problem) {
      if (!signal.aborted) showProblem(trouble, problem, look);
    }
  }

  const anew = settled(PAUSE, () => {
    shown = AT_ONCE;
    look();
  });
  const input = el("input", { id: "browse", type: "search", class: "search", maxlength: "200", oninput: anew });
  more.addEventListener("click", () => {
    shown = Math.min(MOST, 2 * shown);
    look();
  });
  look();
  return el("section", { class: "box", "aria-labelledby": "answers-title" },
    el("h2", { id: "answers-title" }, "Answers"),
    el("label", { for: "browse" }, "Words of a title"), input, note, trouble, list, more);
}
