// Another ranker, which ranks the same queries unseen: how far both agree, and which is right.

import { count, el, percent, shadow, showProblem } from "./common.js";

const FEW = 5; // of fewer no share is shown
const share = (part, whole) => (whole < FEW ? "–" : percent(part / whole));
const ADVICE = {
  switch: "Switch: by the verdicts the shadow is better, and no type is surely worse.",
  stay: "Stay: by the verdicts a type is surely worse with the shadow.",
  "no difference shown": "No difference is shown: both do alike by the verdicts, as far as these can tell.",
  "too early": "Too early: fewer than 20 judged queries name a right answer that both rankers have.",
};

/** Compares both rankers, and shows that in a place; `table` draws a table. */
export async function show(place, table) {
  try {
    const { types, judged, interleaved: wins, advice, ...versions } = await shadow();
    const skipped = types.reduce((sum, type) => sum + type.skipped, 0);
    place.replaceChildren(...[
      el("p", { class: "lead", role: "status" }, ADVICE[advice]),
      el("p", { class: "hint" }, `The ranker is ${versions.ranker}, its shadow ${versions.shadow}. People judged what the ` +
        "ranker showed, which flatters it: they name an answer more often if they see it.",
      skipped > 0 && ` ${count(skipped)} queries were not compared: too many came at once.`),
      table("A right answer among the first three", "Of the judged queries of 30 days.",
        ["Type", "Queries", "Ranker", "Shadow", "p"],
        judged.map((row) => [row.type ?? "all", count(row.queries), share(row.ranker * row.queries, row.queries),
          share(row.shadow * row.queries, row.queries), row.p.toFixed(3)])),
      wins.ranker + wins.shadow > 0 && el("p", {}, `Where both picked the answers shown, the ranker's were right in ${count(wins.ranker)} ` +
        `queries, the shadow's in ${count(wins.shadow)} (p ${wins.p.toFixed(3)}).`),
      table("How far they agree", "Of all queries with three answers.",
        ["Type", "Queries", "Same first", "Of the first three", "Ranker confident", "Shadow confident"],
        types.map((row) => [row.type || "not said", count(row.queries), share(row.same_first, row.queries),
          share(row.shared / 3, row.queries), share(row.confident, row.queries), share(row.shadow_confident, row.queries)])),
    ].filter(Boolean));
  } catch (problem) {
    if (problem.kind !== 404) return showProblem(place, problem, () => show(place, table));
    place.replaceChildren(el("p", { class: "hint" }, "None is there. To compare another ranker, unseen, start the service with ",
      el("code", {}, "--shadow RANKER"), "."));
  }
}
