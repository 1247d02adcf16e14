// A box that finds an answer by the words of its title (the ARIA combobox with a listbox).

import { titles } from "./api.js";
import { el, many, say, settled, unique } from "./dom.js";
import { wordsFor } from "./notice.js";

const PAUSE = 200; // milliseconds of quiet before titles are asked for
const SHOWN = 8;

/**
 * @param {string} label
 * @param {(answer: {id: string, title: string} | null) => void} chosen called at each choice, and
 *   with null when it is taken back by typing on
 * @returns {HTMLElement}
 */
export function answerBox(label, chosen) {
  const [inputId, listId] = [unique("answer"), unique("titles")];
  const list = el("ul", { id: listId, role: "listbox", "aria-label": "Titles", hidden: true });
  const note = el("p", { class: "hint", hidden: true });
  const input = el("input", {
    id: inputId, type: "text", role: "combobox", autocomplete: "off", spellcheck: "false",
    placeholder: "Words of its title", maxlength: "200",
    "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": listId,
    oninput: () => {
      chosen(null);
      look();
    },
    onkeydown: pressed,
    onblur: close,
  });
  let found = [];
  let at = -1;
  let running = null;

  const look = settled(PAUSE, async () => {
    running?.abort();
    const words = input.value.trim();
    if (!words) return close();
    running = new AbortController();
    const { signal } = running;
    try {
      const { answers, total } = await titles(words, SHOWN, signal);
      if (!signal.aborted) show(answers, total);
    } catch (problem) {
      if (signal.aborted) return;
      close();
      const [title, then] = wordsFor(problem);
      tell(`${title}. ${then}`);
    }
  });

  function tell(words) {
    note.textContent = words;
    note.hidden = !words;
    if (words) say(words);
  }

  function show(answers, total) {
    found = answers;
    at = -1;
    list.replaceChildren(...answers.map((answer, i) => el("li", {
      id: `${listId}-${i}`, role: "option", "aria-selected": "false",
      onpointerdown: (event) => event.preventDefault(), // focus stays in the box
      onclick: () => choose(answer),
    }, answer.title)));
    open(answers.length > 0 && document.activeElement === input);
    if (!answers.length) tell("No title has these words.");
    else tell(total > answers.length ? `${many(total, "title")} have these words; type one more.` : "");
    if (answers.length && total <= answers.length) say(many(total, "title"));
  }

  function open(whether) {
    list.hidden = !whether;
    input.setAttribute("aria-expanded", String(whether));
    if (!whether) input.removeAttribute("aria-activedescendant");
  }

  function close() {
    open(false);
  }

  function move(to) {
    at = (to + found.length) % found.length;
    [...list.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
    input.setAttribute("aria-activedescendant", list.children[at].id);
    list.children[at].scrollIntoView({ block: "nearest" });
  }

  function choose(answer) {
    input.value = answer.title;
    close();
    tell("");
    chosen(answer);
  }

  function pressed(event) {
    const shut = list.hidden;
    if (event.key === "Escape" && !shut) close();
    else if (event.key === "Enter" && !shut && at >= 0) choose(found[at]);
    else if (event.key === "ArrowDown" && shut && found.length) open(true);
    else if (event.key === "ArrowDown" && !shut) move(at + 1);
    else if (event.key === "ArrowUp" && !shut) move(at < 0 ? -1 : at - 1);
    else return;
    event.preventDefault();
  }

  return el("div", { class: "combobox" }, el("label", { for: inputId }, label), input, list, note);
}
