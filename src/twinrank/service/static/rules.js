// Pins and synonyms: the file of rules, edited as it stands.

import { el, folded, many, putRules, rules, say, showProblem } from "./common.js";

const EXAMPLE = `# An answer that comes first for a query of just these words; with contains = true,
# also where the query says more. Its id stands under "Answers", below.
[[pins]]
query = "refund"
answer = "ID"

# Each of these words also means the others.
[[synonyms]]
words = ["vpn", "tunnel"]
`;

/** The section of rules; they are read when it is opened. */
export function ruleEditor() {
  const box = el("textarea", { rows: 14, spellcheck: "false", "aria-label": "Rules, as TOML", class: "code" });
  const note = el("p", { class: "hint", role: "status" });
  const trouble = el("div", { hidden: true });
  let digest = "";

  function show(stored) {
    digest = stored.digest;
    trouble.hidden = true;
    const gone = stored.unknown.length ? ` Pinned, but not there: ${stored.unknown.join(", ")}.` : "";
    note.textContent = `In use: ${many(stored.pins, "pin")}, ${many(stored.synonyms, "group of synonyms", "groups of synonyms")}.${gone}`;
  }

  async function load() {
    if (box.value && digest) return; // somebody writes in it
    try {
      const stored = await rules();
      show(stored);
      box.value = stored.text || EXAMPLE;
    } catch (problem) {
      showProblem(trouble, problem, load);
    }
  }

  async function save() {
    try {
      show(await putRules({ text: box.value, digest }));
      say("Saved.");
    } catch (problem) {
      const loadTheirs = () => {
        digest = "";
        load();
      };
      showProblem(trouble, problem, problem.kind === 409 ? loadTheirs : save);
    }
  }

  return el("section", { class: "box", "aria-labelledby": "rules-title" },
    el("h2", { id: "rules-title" }, "Pins and synonyms"),
    folded("Answers that come first, and words that mean the same", el("div", { class: "panel" }, box, note,
      el("div", { class: "row" }, el("button", { type: "button", class: "main", onclick: save }, "Save"),
        el("span", { class: "hint" }, "They take effect at once, without training.")), trouble), load));
}
