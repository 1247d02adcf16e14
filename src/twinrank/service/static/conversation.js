// The conversation as it is written: a turn a row, each with who wrote it; or pasted as a transcript
// of lines `Role: text`, as help desks export them.

import { el, icon, many, say } from "./common.js";

const LABEL = /^\s*(\p{L}[\p{L}\p{N}_. -]{0,30}?)\s*:(?:\s+|$)/u;
const KNOWN = new Set(
  ["user", "agent", "customer", "client", "support", "assistant", "bot", "visitor", "operator"]);

const labelOf = (line) => LABEL.exec(line)?.[1] ?? null;

/**
 * Turns of a transcript. A line begins a turn if its label is a usual role, the first of the text,
 * or there more than once; so `Error: disk full` inside a turn stays there. Null for a text that
 * does not begin with a label.
 */
export function turnsOf(text) {
  const lines = text.split(/\r?\n/);
  const first = labelOf(lines.find((line) => line.trim()) ?? "");
  if (!first) return null;
  const times = new Map();
  for (const label of lines.map(labelOf)) times.set(label, (times.get(label) ?? 0) + 1);
  const begins = (label) =>
    label && (label === first || times.get(label) > 1 || KNOWN.has(label.toLowerCase()));
  const turns = [];
  for (const line of lines) {
    const label = labelOf(line);
    if (begins(label)) turns.push({ role: label.replace(/\s+/g, " "), text: line.replace(LABEL, "") });
    else if (turns.length) turns.at(-1).text += `\n${line}`;
  }
  return turns.map(({ role, text: said }) => ({ role, text: said.trim() })).filter((turn) => turn.text);
}

const ROLES = ["User", "Agent"];

/** The turns in a list; `changed` is called whenever one may read otherwise. */
export function conversation(list, changed) {
  const rows = () => [...list.children];
  const roleOf = (row) => row.querySelector("select");
  const textOf = (row) => row.querySelector("textarea");

  function add(role, text = "", after = list.lastElementChild) {
    const roles = ROLES.includes(role) ? ROLES : [...ROLES, role];
    const select = el("select", { onchange: changed },
      roles.map((name) => el("option", { selected: name === role }, name)));
    const row = el("li", { class: "turn" }, select, el("textarea", {
      rows: "1", oninput: changed, onkeydown: pressed, onpaste: pasted,
    }), el("button", { type: "button", class: "quiet remove", onclick: () => remove(row) }, icon("close")));
    textOf(row).value = text;
    row.addEventListener("change", number);
    if (after) after.after(row);
    else list.append(row);
    number();
    return row;
  }

  function number() {
    rows().forEach((row, i) => {
      roleOf(row).setAttribute("aria-label", `Who wrote turn ${i + 1}`);
      textOf(row).setAttribute("aria-label", `Turn ${i + 1}`);
      row.querySelector(".remove").setAttribute("aria-label", `Remove turn ${i + 1}`);
      row.classList.toggle("agent", roleOf(row).value !== "User");
    });
  }

  function addNext(row = list.lastElementChild) {
    textOf(add(row && roleOf(row).value === "User" ? "Agent" : "User", "", row)).focus();
  }

  function remove(row) {
    const near = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    textOf(near ?? add("User")).focus();
    number();
    changed();
  }

  function pressed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    const row = event.target.closest("li");
    if (!event.target.value.trim()) return;
    const next = row.nextElementSibling;
    if (next && !textOf(next).value.trim()) textOf(next).focus();
    else addNext(row);
  }

  function pasted(event) {
    const turns = turnsOf(event.clipboardData.getData("text/plain"));
    const row = event.target.closest("li");
    if (!turns || turns.length < 2 || textOf(row).value.trim()) return;
    event.preventDefault();
    let last = row;
    for (const { role, text } of turns) last = add(role, text, last);
    row.remove();
    number();
    textOf(last).focus();
    say(`${many(turns.length, "turn")} pasted.`);
    changed();
  }

  return {
    addNext,
    read: () => rows()
      .map((row) => ({ role: roleOf(row).value, text: textOf(row).value.trim() }))
      .filter((turn) => turn.text),
    /** Puts turns in the place of all, or one to begin with; returns the field of the last. */
    fill: (turns = []) => {
      list.replaceChildren();
      for (const { role, text } of turns.length ? turns : [{ role: "User" }]) add(role, text);
      return textOf(list.lastElementChild);
    },
  };
}
