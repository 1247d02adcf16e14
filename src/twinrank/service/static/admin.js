// The admin view: what was asked, how sure the ranker was, what people said, and all answers.

import { bins, byType, chart, charted, share, sums } from "./charts.js";
import {
  $, count, el, fetchAnswer, folded, linked, many, offerToForget, percent, say, settled, showProblem,
  stats, titles, wholeText,
} from "./common.js";

/**
 * @param {string} caption
 * @param {string} hint under it
 * @param {string[]} heads the first one names the rows; the others head numbers
 * @param {(string | number | Node)[][]} rows
 */
function table(caption, hint, heads, rows) {
  const number = (i) => (i ? { class: "number" } : {});
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption, hint && el("span", { class: "hint" }, hint)),
      el("thead", {}, el("tr", {},
        heads.map((head, i) => el("th", { scope: "col", ...number(i) }, head)))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) =>
        el(i ? "td" : "th", i ? number(i) : { scope: "row" }, cell)))))));
}

const PAUSE = 200; // milliseconds of quiet before titles are asked for
const MOST = 100; // that the service lists

function row({ id, title, url }) {
  const panel = el("div", { class: "panel" });
  const load = async () => {
    try {
      const whole = wholeText(await fetchAnswer(id), {}, "h3");
      panel.replaceChildren(el("p", { class: "hint" }, linked(id, url)), ...whole);
    } catch (problem) {
      showProblem(panel, problem, load);
    }
  };
  return el("li", {}, folded(title || id, panel, load));
}

/** The section that browses answers. */
function browser() {
  const list = el("ul", { class: "browse" });
  const note = el("p", { class: "hint", role: "status" });
  const trouble = el("div", { hidden: true });
  const input = el("input", {
    type: "search", class: "search", maxlength: "200", oninput: settled(PAUSE, look),
  });
  let running = null;

  async function look() {
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    try {
      const { answers, total } = await titles(input.value.trim(), MOST, signal);
      if (signal.aborted) return;
      trouble.hidden = true;
      list.replaceChildren(...answers.map(row));
      note.textContent = total > MOST
        ? `${MOST} of ${many(total, "answer")}; words find the others` : many(total, "answer");
    } catch (problem) {
      if (!signal.aborted) showProblem(trouble, problem, look);
    }
  }

  look();
  return el("section", { class: "box", "aria-labelledby": "answers-title" },
    el("h2", { id: "answers-title" }, "Answers"),
    el("label", {}, "Words of a title", input), note, trouble, list);
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
    tile("Confident", shareText(total.confident, total.requests), "first answer at least 50 % likely"),
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
  const per = (each) => (each === fine && fine.length === days ? "day" : "week");
  const of = (each, i, { rows: own }) => sums(each[i].pick(own));
  const values = (type, part) => fine.map((_, i) => part(of(fine, i, type)));
  const lists = (i, words) => types.map((type) => `${type.name} ${words(of(fine, i, type))}`).join(" · ");
  const judged = coarse.map((bin) => sums(bin.pick(rows)));
  const accuracy = judged.map(({ right, wrong }) => shareOf(right, right + wrong));
  return el("div", { class: "charts" },
    chart({
      title: "Traffic by type", hint: `Queries a ${per(fine)}.`, kind: "bars",
      series: types.map((type) => (
        { name: type.name, colour: type.colour, values: values(type, (sum) => sum.requests) })),
      labels: fine.map((bin) => bin.short),
      read: (i) => `${fine[i].long}: ${lists(i, (sum) => count(sum.requests))}`,
    }),
    chart({
      title: "Confident share", hint: `Of a ${per(fine)}'s queries, those whose first answer is at least 50 % likely.`,
      kind: "lines",
      series: types.map((type) => ({
        name: type.name, colour: type.colour,
        values: values(type, ({ confident, requests }) => (requests < FEW ? null : confident / requests)),
      })),
      labels: fine.map((bin) => bin.short),
      read: (i) =>
        `${fine[i].long}: ${lists(i, ({ confident, requests }) => shareText(confident, requests))}`,
    }),
    chart({
      title: "Right, by the verdicts", hint: `Of the queries judged in a ${days > WEEK ? "week" : "day"}, from ${FEW} on; the bars are 95% intervals.`,
      kind: "lines",
      series: [{ name: "right", values: accuracy.map((one) => one && one.value), ranges: accuracy }],
      labels: coarse.map((bin) => bin.short),
      read: (i) => accuracy[i]
        ? `${coarse[i].long}: ${percent(accuracy[i].value)} of ${judgedQueries(judged[i].right + judged[i].wrong)} ` +
          `(${percent(accuracy[i].low)} to ${percent(accuracy[i].high)})`
        : `${coarse[i].long}: ${count(judged[i].right)} of ${judgedQueries(judged[i].right + judged[i].wrong)}`,
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
  const named = ({ title, id }) => title || id;
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
    if (!signal.aborted) showProblem($("#problem"), problem, () => load(failures + 1), failures + 1);
  } finally {
    if (!signal.aborted) $("#figures").setAttribute("aria-busy", "false");
  }
}

for (const range of document.getElementsByName("days")) range.addEventListener("change", () => load());
offerToForget();
load();
$("#browser").replaceChildren(browser());
