// Verdicts: each has a key of its own, so that one that is sent twice is stored once.

import { judge } from "./api.js";
import { el, icon, say } from "./dom.js";
import { showProblem } from "./notice.js";

/** A random UUID, also where the page came by plain HTTP and `randomUUID` is missing. */
function ownKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Stores a verdict; after a failure the same one, with the same key, is sent again.
 *
 * @param {{query: object, shown: string[], ranker: string}} ranking what was judged
 * @param {{answer: string | null, right: boolean}} verdict
 * @param {HTMLElement} place where its progress is shown
 * @param {string} thanks shown once it is stored
 * @returns {Promise<void>} settled when it is stored
 */
export function store({ query, shown, ranker }, verdict, place, thanks) {
  const body = { key: ownKey(), ...query, ...verdict, shown, ranker };
  place.hidden = false;
  return new Promise((stored) => {
    let failures = 0;
    const send = async () => {
      place.replaceChildren(el("p", { class: "hint" }, "Storing …"));
      try {
        await judge(body);
      } catch (problem) {
        failures += 1;
        showProblem(place, problem, send, failures);
        return;
      }
      place.replaceChildren(el("p", { class: "good" }, thanks));
      say(thanks);
      stored();
    };
    send();
  });
}

/** Thumbs for one answer of a ranking. */
export function thumbs(ranking, { id, title }) {
  const place = el("div", { class: "said", hidden: true });
  const thumb = (right, words) => {
    const button = el("button", {
      type: "button", class: `thumb ${right ? "up" : "down"}`, "aria-pressed": "false",
      onclick: () => {
        if (button.getAttribute("aria-pressed") === "true") return;
        for (const other of both) other.setAttribute("aria-pressed", String(other === button));
        const thanks = right ? "Stored as right. Thank you." : "Stored as wrong. Thank you.";
        store(ranking, { answer: id, right }, place, thanks);
      },
    }, icon(right ? "up" : "down"), el("span", {}, words));
    return button;
  };
  const both = [thumb(true, "Right"), thumb(false, "Wrong")];
  const group = el("div", { class: "thumbs", role: "group", "aria-label": `Is “${title}” right?` }, both);
  return { group, place };
}
