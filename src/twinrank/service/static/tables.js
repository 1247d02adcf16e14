// Tables of the admin view.

import { el } from "./dom.js";

/**
 * @param {string} caption
 * @param {string} hint under it
 * @param {string[]} heads the first one names the rows; the others head numbers
 * @param {(string | number | Node)[][]} rows
 */
export function table(caption, hint, heads, rows) {
  const number = (i) => (i ? { class: "number" } : {});
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption, hint && el("span", { class: "hint" }, hint)),
      el("thead", {}, el("tr", {},
        heads.map((head, i) => el("th", { scope: "col", ...number(i) }, head)))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) =>
        el(i ? "td" : "th", i ? number(i) : { scope: "row" }, cell)))))));
}
