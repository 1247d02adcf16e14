// Pins and synonyms: the file of rules, edited as it stands.

import { el, many, putRules, rules, say, showProblem } from "./common.js";

const EXAMPLE = `# An answer that comes first for a query of just these words; with contains = true,
# also where the query says more. Its id stands under "Answers", below.
[[pins]]
query = "refund"
answer = "ID"

# Each of these words also means the others.
[[synonyms]]
words = ["vpn", "tunnel"]
`;

/** Shows the rules in a place, to be edited; what somebody has begun to write stays. */
export function show(place) {
  if (place.querySelector("textarea")) return;
  const box = el("textarea", { rows: 14, spellcheck: "false", "aria-label": "Rules, as TOML", class: "code" });
  const note = el("p", { class: "hint", role: "status" });
  const trouble = el("div", { hidden: true });
  let digest = "";

  function use(stored) {
    digest = stored.digest;
    trouble.hidden = true;
    const gone = stored.unknown.length ? ` Pinned, but not there: ${stored.unknown.join(", ")}.` : "";
    note.textContent = `In use: ${many(stored.pins, "pin")}, ${many(stored.synonyms, "group of synonyms", "groups of synonyms")}.${gone}`;
  }

  async function load() {
    try {
      const stored = await rules();
      use(stored);
      box.value = stored.text || EXAMPLE;
    } catch (problem) {
      showProblem(trouble, problem, load);
    }
  }

  async function save() {
    try {
      use(await putRules({ text: box.value, digest }));
      say("Saved.");
    } catch (problem) {
      showProblem(trouble, problem, problem.kind === 409 ? load : save);
    }
  }

  place.replaceChildren(box, note,
    el("div", { class: "row" }, el("button", { type: "button", class: "main", onclick: save }, "Save"),
      el("span", { class: "hint" }, "They take effect at once, without training.")), trouble);
  load();
}
