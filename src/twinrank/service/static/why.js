// Why an answer stands where it does: what each channel gave, and past queries that ended there.

import { el, many } from "./dom.js";

const NAMES = {
  dense: "Meaning",
  past: "Similar past queries",
  "past words": "Words of past queries",
  prior: "How often it was right",
  words: "Words of the answer",
};
const LONG = 220; // characters of a past query that are shown at once

/** Mean of each channel over the answers of a ranking, and the range of all values and zero. */
export function channelScale(answers) {
  const parts = answers.map((answer) => answer.channels).filter(Boolean);
  const names = Object.keys(parts[0] ?? {});
  const values = (name) => parts.map((part) => part[name] ?? 0);
  const mean = (name) => values(name).reduce((sum, value) => sum + value, 0) / parts.length;
  return {
    names,
    means: Object.fromEntries(names.map((name) => [name, mean(name)])),
    low: Math.min(0, ...names.flatMap(values)),
    high: Math.max(1e-9, ...names.flatMap(values)),
    compared: parts.length > 1,
  };
}

const rounded = (value) => Math.abs(value).toFixed(2);
const signed = (value) => `${["+", "±", "−"][rounded(value) === "0.00" ? 1 : value > 0 ? 0 : 2]}${rounded(value)}`;
const named = (name) => NAMES[name] ?? name;

function bar(name, value, { means, low, high, compared }) {
  const place = (amount) => `${((100 * (amount - low)) / (high - low)).toFixed(1)}%`;
  const fill = el("span", { class: value < 0 ? "fill below" : "fill" });
  fill.style.insetInlineStart = place(Math.min(0, value));
  fill.style.inlineSize = `calc(${place(Math.max(0, value))} - ${place(Math.min(0, value))})`;
  const average = compared && el("span", { class: "average" });
  if (average) average.style.insetInlineStart = place(means[name]);
  return el("div", { class: "channel" },
    el("dt", {}, named(name)),
    el("dd", {},
      el("span", { class: "track", "aria-hidden": "true" }, fill, average),
      el("span", { class: "value" }, value.toFixed(2)),
      compared && el("span", { class: "value soft" }, signed(value - means[name]))));
}

/** The channel that sets this answer most apart from the others shown, in words. */
function inWords(channels, { names, means, compared }) {
  if (!compared) return "What each channel gave to its score.";
  const ahead = (name) => (channels[name] ?? 0) - means[name];
  const most = names.reduce((best, name) => (ahead(name) > ahead(best) ? name : best));
  return ahead(most) > 0
    ? `What speaks for it most, compared with the answers shown: ${named(most).toLowerCase()}.`
    : "No channel gave it more than the average of the answers shown.";
}

function pastQuery({ id, text, similarity }) {
  const like = `Similarity ${similarity.toFixed(2)} `;
  if (text == null) return el("li", { class: "hint" }, like, id && el("code", {}, id));
  const short = text.length <= LONG;
  const cut = short ? text : `${text.slice(0, LONG).replace(/\s+\S*$/, "")} …`;
  const quote = el("blockquote", { tabindex: "-1" }, cut);
  const more = !short && el("button", {
    type: "button", class: "quiet", onclick: () => {
      quote.textContent = text;
      quote.focus(); // the button that had it goes
      more.remove();
    },
  }, "Show all of it");
  return el("li", {}, quote, el("p", { class: "hint" }, like, more));
}

/** The panel's content for one answer. */
export function why(answer, scale) {
  const parts = [];
  if (answer.channels) {
    parts.push(
      el("h4", {}, "Channels"), el("p", { class: "hint" }, inWords(answer.channels, scale)),
      el("dl", { class: "channels" },
        scale.names.map((name) => bar(name, answer.channels[name] ?? 0, scale))),
      scale.compared && el("p", { class: "hint" },
        "The line in a bar, and the second number, compare with the average of the answers shown."));
  } else {
    parts.push(el("p", { class: "hint" }, `Its score is ${answer.score.toFixed(2)}, from one channel.`));
  }
  parts.push(el("h4", {}, "Past queries that this answer solved"));
  const past = answer.past_queries ?? [];
  const [most, hidden] = [past.length, past.some(({ text }) => text == null)];
  const solved = `It solved ${many(answer.solved ?? most, "past query", "past queries")}. `;
  const nearest = most === 1 ? "The one most like yours:" : `The ${most} most like yours:`;
  parts.push(
    el("p", { class: "hint" }, most ? solved + nearest : "None yet."),
    most > 0 && el("ul", { class: "past" }, past.map(pastQuery)),
    hidden && el("p", { class: "hint" }, "What people wrote is not shown here."));
  return parts.filter(Boolean);
}
