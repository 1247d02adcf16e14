// Elements are built, never parsed: what people wrote can only ever become text.

const SVG = "http://www.w3.org/2000/svg";
let counted = 0;

/** A name that no other element of the page has. */
export const unique = (stem) => `${stem}-${++counted}`;

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** An element; attributes that start with `on` are listeners, children are elements or text. */
export const el = (name, attributes = {}, ...children) =>
  dress(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) =>
  dress(document.createElementNS(SVG, name), attributes, children);

export const $ = (selector) => document.querySelector(selector);

/** A link where the address is one of the web; the bare words where it is anything else. */
export function linked(words, url) {
  let at = null;
  try {
    at = url ? new URL(url) : null;
  } catch {
    return words;
  }
  if (!at || !["http:", "https:"].includes(at.protocol)) return words;
  return el("a", { href: at.href, target: "_blank", rel: "noopener noreferrer" }, words);
}

const ICONS = {
  up: "M7 10v10H4V10zM7 10l4-7c1.5 0 2.4 1 2.2 2.4L12.6 9H18a2 2 0 0 1 2 2.4l-1.3 7A2 2 0 0 1 16.7 20H7",
  down: "M7 14V4H4v10zM7 14l4 7c1.5 0 2.4-1 2.2-2.4L12.6 15H18a2 2 0 0 0 2-2.4l-1.3-7A2 2 0 0 0 16.7 4H7",
  close: "M6 6l12 12M18 6L6 18",
};

export const icon = (name) =>
  svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }));

/** A button that opens and closes a panel; `opened` runs each time it opens. */
export function discloser(words, panel, opened = () => {}) {
  panel.id = unique("panel");
  panel.hidden = true;
  const button = el("button", {
    type: "button", class: "quiet fold", "aria-expanded": "false", "aria-controls": panel.id,
    onclick: () => {
      panel.hidden = !panel.hidden;
      button.setAttribute("aria-expanded", String(!panel.hidden));
      if (!panel.hidden) opened();
    },
  }, words);
  return button;
}

/** Tells those who listen rather than look. */
export function say(words) {
  const place = $("#spoken");
  place.textContent = place.textContent === words ? `${words}\u00a0` : words; // said again, too
}

/** Runs the last of many calls, once none has come for so many milliseconds. */
export function settled(milliseconds, work) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
export const count = (number) => number.toLocaleString("en");
export const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;
