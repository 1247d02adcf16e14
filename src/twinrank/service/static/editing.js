// All answers: found by words of their titles, read, edited, and an edit undone.

import {
  $, el, fetchAnswer, folded, linked, many, putAnswer, say, settled, showProblem, titles, wholeText,
} from "./common.js";
import { toAnswer, toMisses } from "./misses.js";

const PAUSE = 200; // milliseconds of quiet before titles are asked for
const FIRST = 10; // answers that are listed at once
const MOST = 100; // that the service lists

const button = (look, words, onclick) => el("button", { type: "button", class: look, onclick }, words);
const alike = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const bare = (text) => text.replace(/\s+/g, "");
/** The text of sections, as the importer makes it. */
const joined = (parts) => parts.flatMap(({ title, text }) => [title, text]).filter(Boolean).join("\n");

/** Sections as one text to be edited, each title in a line that begins with ##; and back. */
const written = (parts) => parts.map(({ title, text }, i) => (i || title ? `## ${title}\n${text}` : text)).join("\n\n");
function parsed(body) {
  const [first, ...rest] = body.split(/^## ?(.*)\n?/m).map((part) => part.trim());
  const parts = first || !rest.length ? [{ title: "", text: first }] : [];
  for (let i = 0; i < rest.length; i += 2) parts.push({ title: rest[i], text: rest[i + 1] });
  return parts;
}

/** A form for an answer, with a preview; `save` gets what is to be stored. */
function form(answer, save, cancel) {
  const { sections, text } = answer;
  const input = (name, value, attributes) => {
    const box = el(name === "body" ? "textarea" : "input", { name, ...attributes });
    box.value = value;
    return box;
  };
  const title = input("title", answer.title, { required: true });
  const url = input("url", answer.url ?? "");
  const body = input("body", sections.length ? written(sections) : text, { rows: 12 });
  const former = body.value;
  const preview = el("div", { class: "preview" });
  const place = el("div", { hidden: true });

  function draft() {
    const now = { ...answer, title: title.value, url: url.value.trim() || null };
    if (body.value === former) return now;
    const parts = parsed(body.value);
    const kept = sections.length && bare(joined(sections)) !== bare(text); // it is not that of the sections
    return { ...now, text: kept ? text : joined(parts), sections: sections.length || parts[1] || parts[0].title ? parts : [] };
  }

  function show() {
    const now = draft();
    element.toggleAttribute("data-changed", !alike(now, answer));
    preview.replaceChildren(el("p", { class: "hint" }, "As agents see it"),
      el("h3", {}, linked(now.title, now.url)), ...wholeText(now));
  }

  const element = el("form", {
    class: "edit", oninput: show, onsubmit: (event) => {
      event.preventDefault();
      save(draft(), place);
    },
  }, el("div", {}, el("label", {}, "Title", title), el("label", {}, "Address", url),
    el("label", {}, "Text; a line that begins with ## is the title of a section", body),
    el("div", { class: "row" }, el("button", { class: "main" }, "Save"), button("quiet", "Cancel", cancel)), place), preview);
  show();
  return element;
}

/** An answer in the list. */
function row({ id, title }) {
  const panel = el("div", { class: "panel" });
  const fold = folded(title || id, panel, load);

  async function load() {
    if (panel.querySelector("form")) return; // somebody writes in it
    try {
      read(await fetchAnswer(id));
    } catch (problem) {
      showProblem(panel, problem, load);
    }
  }

  /** Shows an answer; after a change what became of it, and the way back to the one before. */
  function read(answer, done, former) {
    const place = el("div", { hidden: true });
    const edit = () => {
      panel.replaceChildren(form(answer, (draft, at) => store(draft, answer, at, "Saved."), () => read(answer)));
      panel.querySelector("input").focus();
    };
    fold.firstChild.textContent = answer.title || id;
    panel.replaceChildren(el("p", { class: "hint" }, linked(id, answer.url)), ...wholeText(answer, {}, "h3"),
      el("div", { class: "row" }, button("plain", "Edit", edit),
        former && button("plain", "Undo", () => store(former, answer, place, "Undone.")),
        done && el("span", { class: "good" }, done), toMisses(id, "Queries for which it was wrong")), place);
    if (!done) return;
    say(done);
    panel.querySelector("button").focus();
  }

  /** Stores an answer in place of the one before, unless that is no longer there. */
  async function store(answer, before, place, done) {
    const { title, text, url, sections } = answer; // metadata that are left out stay as they are
    try {
      const now = await fetchAnswer(id);
      if (alike(now, before)) return read(await putAnswer(id, { title, text, url, sections }), done, now);
      place.hidden = false;
      place.replaceChildren(el("div", { class: "notice", role: "alert" },
        el("p", { class: "title" }, "Not saved: somebody changed this answer meanwhile"),
        folded("As it is now", el("div", {}, el("b", {}, now.title), ...wholeText(now))),
        button("plain", "Save mine in its place", () => store(answer, now, place, done))));
    } catch (problem) {
      showProblem(place, problem, () => store(answer, before, place, done));
    }
  }

  return el("li", {}, fold);
}

/** The section of all answers, and what opens one of them. */
export function answerList() {
  const list = el("ul", { class: "browse" });
  const note = el("p", { class: "hint", role: "status" });
  const trouble = el("div", { hidden: true });
  const input = el("input", { type: "search", class: "search", maxlength: "200", oninput: settled(PAUSE, () => look()) });
  const more = button("plain", "Show more", () => look(MOST));
  let running = null;

  async function look(limit = FIRST) {
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    try {
      const { answers, total } = await titles(input.value.trim(), limit, signal);
      if (signal.aborted) return;
      trouble.hidden = true;
      fill(answers.map(row), `${many(total, "answer")}${total > MOST ? "; words find those that are not listed" : ""}`,
        answers.length >= Math.min(total, MOST));
    } catch (problem) {
      if (!signal.aborted) showProblem(trouble, problem, () => look(limit));
    }
  }

  function fill(rows, words, all) {
    if ($("[data-changed]")) {
      note.textContent = "Save or cancel what you edit first.";
      return;
    }
    list.replaceChildren(...rows);
    note.replaceChildren(words);
    more.hidden = all;
  }

  function open(id) {
    if (!id) return look();
    running?.abort();
    const item = row({ id });
    fill([item], toAnswer("", "All answers"), true);
    item.firstChild.open = true;
    item.querySelector("summary").focus();
  }

  addEventListener("beforeunload", (event) => $("[data-changed]") && event.preventDefault());
  return {
    section: el("section", { class: "box", "aria-labelledby": "answers-title" },
      el("h2", { id: "answers-title" }, "Answers"), el("label", {}, "Words of a title", input), note, trouble, list, more),
    look, open,
  };
}
