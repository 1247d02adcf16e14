// The conversation as it is written: a turn a row, each with who wrote it.

import { el, icon, many, say } from "./dom.js";
import { turnsOf } from "./transcript.js";

const ROLES = ["User", "Agent"];

/**
 * @param {HTMLElement} list an ordered list that holds the turns
 * @param {() => void} changed called whenever any turn may read otherwise
 */
export function conversation(list, changed) {
  const rows = () => [...list.children];
  const roleOf = (row) => row.querySelector("select");
  const textOf = (row) => row.querySelector("textarea");

  function select(role) {
    const roles = ROLES.includes(role) ? ROLES : [...ROLES, role];
    return el("select", { onchange: changed },
      roles.map((name) => el("option", { selected: name === role }, name)));
  }

  function add(role, text = "", after = list.lastElementChild) {
    const row = el("li", { class: "turn" }, select(role), el("textarea", {
      rows: "1", oninput: changed, onkeydown: pressed, onpaste: pasted,
    }), el("button", { type: "button", class: "quiet remove", onclick: () => remove(row) }, icon("close")));
    textOf(row).value = text;
    row.addEventListener("change", () => side(row));
    if (after) after.after(row);
    else list.append(row);
    number();
    return row;
  }

  const side = (row) => row.classList.toggle("agent", roleOf(row).value !== "User");

  function number() {
    rows().forEach((row, i) => {
      roleOf(row).setAttribute("aria-label", `Who wrote turn ${i + 1}`);
      textOf(row).setAttribute("aria-label", `Turn ${i + 1}`);
      row.querySelector(".remove").setAttribute("aria-label", `Remove turn ${i + 1}`);
      side(row);
    });
  }

  const nextRole = (row) => (row && roleOf(row).value === "User" ? "Agent" : "User");

  function addNext(row = list.lastElementChild) {
    textOf(add(nextRole(row), "", row)).focus();
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
    start: (text = "") => {
      list.replaceChildren();
      return textOf(add("User", text));
    },
  };
}
