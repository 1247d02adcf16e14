// The admin view: what was asked, how sure the ranker was, what people said, and all answers.

import { bins, byType, chart, charted, LONG, share, sums } from "./charts.js";
import {
  $, count, el, folded, learning, many, offerToForget, percent, rollBack, say, showProblem, stats,
} from "./common.js";
import { answerList } from "./editing.js";
import { missList, toMisses } from "./misses.js";

/** A table whose first column names the rows; the others are numbers. */
function table(caption, hint, heads, rows) {
  const number = (i) => (i ? { class: "number" } : {});
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption, hint && el("span", { class: "hint" }, hint)),
      el("thead", {}, el("tr", {},
        heads.map((head, i) => el("th", { scope: "col", ...number(i) }, head)))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) =>
        el(i ? "td" : "th", i ? { ...number(i), "data-head": heads[i] } : { scope: "row" }, cell)))))));
}

const WEEK = 7; // days; a day has too few verdicts to show a share of
const FEW = 5; // of fewer no share is shown
const none = "–";
const shareText = (part, whole) => (whole < FEW ? none : percent(part / whole));
const shareOf = (part, whole) => (whole < FEW ? null : share(part, whole));

const judgedQueries = (number) => many(number, "judged query", "judged queries");

function tiles(total, { verdicts, learnable }) {
  const judged = total.right + total.wrong;
  const sure = shareOf(total.right, judged);
  const tile = (name, value, hint) => el("div", { class: "tile" },
    el("dt", {}, name), el("dd", {}, value), el("dd", { class: "hint" }, hint));
  return el("dl", { class: "tiles" },
    tile("Requests", count(total.requests), "queries that were ranked"),
    tile("Confident", shareText(total.confident, total.requests), "first answer at least 50% likely"),
    tile("Withheld", shareText(total.withheld, total.requests), "not sure enough to be shown"),
    tile("Right", sure ? percent(sure.value) : none, sure
      ? `of ${judgedQueries(judged)}; 95% interval ${percent(sure.low)} to ${percent(sure.high)}`
      : judged ? `${count(total.right)} of ${judgedQueries(judged)}: too few for a share` : "no verdict yet"),
    tile("To learn from", count(learnable), `texts whose right answer was said, in ${many(verdicts, "verdict")}`));
}

/** Traffic and confidence a day, or a week where there are many; verdicts a week. */
function charts({ days: rows, types: known }, days) {
  const types = byType(rows, charted(known));
  const fine = bins(days, days > 31 ? WEEK : 1);
  const coarse = bins(days, days > WEEK ? WEEK : 1);
  const per = days > 31 ? "week" : "day";
  const of = (type, bin) => sums(bin.pick(type.rows));
  const series = (value) => types.map((type) => ({ ...type, values: fine.map((bin) => value(of(type, bin))) }));
  const listed = (words) => (bin) => types.map((type) => `${type.name} ${words(of(type, bin))}`).join(" · ");
  const accuracy = coarse.map((bin) => ((sum) => shareOf(sum.right, sum.right + sum.wrong))(sums(bin.pick(rows))));
  return el("div", { class: "charts" },
    chart({
      title: "Traffic by type", hint: `Queries a ${per}; pale: a part of one.`, kind: "bars", bins: fine,
      series: series((sum) => sum.requests), read: listed((sum) => count(sum.requests)),
    }),
    chart({
      title: "Confident share", hint: `Of a ${per}'s queries, those whose first answer is at least 50% likely.`,
      kind: "lines", bins: fine,
      series: series(({ confident, requests }) => (requests < FEW ? null : confident / requests)),
      read: listed(({ confident, requests }) => shareText(confident, requests)),
    }),
    chart({
      title: "Right, by the verdicts", hint: `Of the queries judged in a ${days > WEEK ? "week" : "day"}, from ${FEW} on; the bars are 95% intervals.`,
      kind: "lines", bins: coarse,
      series: [{ name: "right", values: accuracy.map((one) => one?.value), ranges: accuracy }],
      read: (bin, i) => {
        const { right, wrong } = sums(bin.pick(rows));
        const of = `of ${judgedQueries(right + wrong)}`;
        const { value, low, high } = accuracy[i] ?? {};
        return accuracy[i] ? `${percent(value)} ${of} (${percent(low)} to ${percent(high)})` : `${count(right)} ${of}`;
      },
    }));
}

const COUNTS = ["Requests", "Confident", "Withheld", "Right", "Wrong", "Share right"];
const counted = (name, { requests, confident, withheld, right, wrong }) => [
  name, count(requests), shareText(confident, requests), shareText(withheld, requests),
  count(right), count(wrong), shareText(right, right + wrong),
];

function tables({ days: rows, misses, wanted }, days) {
  const box = (...inside) => el("section", { class: "box" }, ...inside);
  const listed = (title, hint, heads, list, empty) => box(
    list.length ? table(title, hint, heads, list)
      : [el("h2", {}, title), el("p", { class: "hint" }, empty)]);
  const fine = bins(days, 1).reverse();
  const named = ({ title, id }) => toMisses(id, title || id);
  return [
    box(
      table("By type", "", ["Type", ...COUNTS],
        byType(rows).map((type) => counted(type.name, type.total))),
      folded("Every day as a table",
        table("By day", "", ["Day", ...COUNTS],
          fine.map((bin) => counted(bin.long, sums(bin.pick(rows))))))),
    el("div", { class: "charts" },
      listed("Answers with most misses", "Shown, and said to be wrong.",
        ["Answer", "Wrong", "Right", "Share wrong"],
        misses.map((row) => [
          named(row), count(row.wrong), count(row.right), shareText(row.wrong, row.wrong + row.right),
        ]), "No answer was said to be wrong."),
      listed("Wanted answers", "Named as the right one when they were not among those shown.",
        ["Answer", "Times"], wanted.map((row) => [named(row), count(row.times)]),
        "No answer was named that had not been shown.")),
  ];
}

/** What learning did last, what waits to be learned, and the way back. */
async function showLearning(act = learning) {
  try {
    const { current, previous, waiting, command } = await act();
    const texts = ({ learned: from }) => `It has learned ${!from ? "nothing from verdicts yet"
      : `${many(from.queries, "text")} that people judged${from.on ? `, on ${LONG.format(Date.parse(from.on))}` : ""}`}.`;
    const queries = (kind) => current.labelled?.validation?.[kind] ?? 0;
    const top = ({ quality }, kind) => shareText((quality?.types[kind]?.["accuracy@3"] ?? 0) * queries(kind), queries(kind));
    const back = () => confirm("All who ask get the ranker before. Answers stay as they are, and you can change back.") &&
      showLearning(() => rollBack(previous.version));
    learned.replaceChildren(el("h2", {}, "What the ranker learned"), el("p", {}, texts(current)),
      el("p", {}, waiting === null ? "Its recipe learns nothing from verdicts." : !waiting ? "No judged text waits to be learned."
        : `Texts that wait to be learned: up to ${count(waiting)}. To train a ranker on them, which takes the place unless it is worse: `,
      waiting > 0 && el("code", {}, command)),
      ...(previous ? [
        table("A right answer among the first three", "Share of the validation queries; a few percent are chance.",
          ["Type", "Queries", "Ranker before", "This one"],
          Object.keys(current.quality?.types ?? {}).map((kind) => [kind, count(queries(kind)), top(previous, kind), top(current, kind)])),
        el("p", { class: "row" }, el("button", { type: "button", class: "plain", onclick: back }, "Go back to the ranker before"),
          el("span", { class: "hint" }, texts(previous)))] : []));
    learned.hidden = false;
    if (act !== learning) load(); // the figures name the ranker
  } catch (problem) {
    learned.hidden = problem.kind === 403; // the key has no say in it
    if (!learned.hidden) showProblem(learned, problem, () => showLearning());
  }
}

/** A section whose module is loaded when it is opened. */
function later(name, title, words) {
  const place = el("div", { class: "panel" });
  async function open() {
    const note = (words) => place.replaceChildren(el("p", { class: "hint", role: "status" }, words));
    if (!place.firstChild) note("Looking …");
    try {
      (await import(`./${name}.js`)).show(place, table);
    } catch {
      note("No connection to the service. Close this, and open it again.");
    }
  }
  return el("section", { class: "box", "aria-labelledby": `${name}-title` },
    el("h2", { id: `${name}-title` }, title), folded(words, place, open));
}

let running = null;

async function load(failures = 0) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const days = Number(document.querySelector("[name=days]:checked").value);
  $("#figures").setAttribute("aria-busy", "true");
  try {
    const found = await stats(days, signal);
    if (signal.aborted) return;
    $("#problem").hidden = true;
    const quiet = el("p", { class: "lead" }, `Nothing was asked in the last ${days} days.`);
    $("#figures").replaceChildren(
      tiles(sums(found.days), found),
      ...(found.days.length ? [charts(found, days), ...tables(found, days)] : [quiet]));
    $("#ranker").textContent = `Ranker ${found.ranker}`;
    say(`The last ${days} days.`);
  } catch (problem) {
    if (!signal.aborted) showProblem($("#problem"), problem, () => refresh(failures + 1), failures + 1);
  } finally {
    if (!signal.aborted) $("#figures").setAttribute("aria-busy", "false");
  }
}

/** Shows what the address names: the misses of an answer, or the answer itself. */
function follow() {
  const named = new URLSearchParams(location.hash.slice(1));
  if (named.has("answer")) return answers.open(named.get("answer"));
  queries.show({ answer: named.get("misses") });
  if (named.has("misses")) queries.title.focus();
}

const queries = missList();
const answers = answerList();
const learned = el("section", { class: "box", hidden: true });
$("#browser").replaceWith(queries.section, later("gaps", "Which article is missing?", "Look for topics, by the verdicts of 90 days"), learned,
  later("shadow", "Should another ranker take over?", "Compare with the shadow"),
  later("rules", "Pins and synonyms", "Answers that come first, and words that mean the same"), answers.section);
for (const range of document.getElementsByName("days")) {
  range.addEventListener("change", () => {
    load();
    queries.show({ days: range.value });
  });
}
function refresh(failures) {
  load(failures);
  queries.show({});
  showLearning();
}

addEventListener("hashchange", follow);
addEventListener("click", ({ target }) => target.closest("a")?.hash === location.hash && location.hash && follow());
offerToForget();
refresh();
answers.look();
if (location.hash) follow();
