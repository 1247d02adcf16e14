// What both pages share: elements, the key, requests to the service, and notices of what went wrong.
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

const PLACE = "twinrank-key";
let asking = null; // one dialog, however many requests wait for it

export const heldKey = () => sessionStorage.getItem(PLACE);

/** Asks for a key; true when one was given. */
function askForKey({ refused = false } = {}) {
  asking ??= dialog(refused).finally(() => (asking = null));
  return asking;
}

function dialog(refused) {
  const hint = refused
    ? "That key was not accepted. Check it, or ask whoever runs the service."
    : "Whoever runs the service can give you one. It is kept until you close this tab.";
  const input = el("input", {
    id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true,
    "aria-describedby": "key-hint",
  });
  const form = el("form", {},
    el("h2", { id: "key-title" }, "This service asks for a key"),
    el("label", { for: "key" }, "Key"), input,
    el("p", { id: "key-hint", class: refused ? "bad" : "hint" }, hint),
    el("div", { class: "row" },
      el("button", { class: "main" }, "Use this key"),
      el("button", { type: "button", class: "quiet", onclick: () => box.close() }, "Not now")));
  const box = el("dialog", { "aria-labelledby": "key-title" }, form);
  document.body.append(box);
  box.showModal();
  input.focus();
  return new Promise((resolve) => {
    let given = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault(); // it goes with the next request, not to an address
      if (!input.value.trim()) return;
      sessionStorage.setItem(PLACE, input.value.trim());
      given = true;
      box.close();
    });
    box.addEventListener("close", () => {
      box.remove();
      offerToForget();
      resolve(given);
    });
  });
}

/** A button in the head of the page, while a key is held. */
export function offerToForget() {
  const button = $("#forget");
  button.hidden = !heldKey();
  button.onclick = () => {
    sessionStorage.removeItem(PLACE);
    location.reload();
  };
}

const PATIENCE = 30_000; // milliseconds until a reply is given up

/** Why there is no reply. `kind` is an HTTP status, or `offline`; `wait` is in seconds. */
class Problem extends Error {
  constructor(kind, detail = "", { wait = null, request = null } = {}) {
    super(detail);
    Object.assign(this, { kind, wait, request });
  }

  /** Whether the same request may do better a little later. */
  get passes() {
    return ["offline", 429, 502, 503, 504].includes(this.kind);
  }
}

/** Retry-After in seconds; it is a number of them or a date. */
function waitOf(reply) {
  const given = reply.headers.get("Retry-After");
  if (!given) return null;
  const seconds = /^\d+$/.test(given) ? Number(given) : (Date.parse(given) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(1, Math.ceil(seconds)) : null;
}

async function problemOf(reply) {
  const said = await reply.json().catch(() => null);
  const detail = typeof said?.detail === "string" ? said.detail : "";
  const request = reply.headers.get("X-Request-ID");
  return new Problem(reply.status, detail, { wait: waitOf(reply), request });
}

async function once(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (heldKey()) headers.Authorization = `Bearer ${heldKey()}`;
  const ends = [AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])];
  try {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const reply = await fetch(path, { method, headers, body: text, signal: AbortSignal.any(ends) });
    if (!reply.ok) throw await problemOf(reply);
    return reply.status === 204 ? null : await reply.json();
  } catch (error) {
    if (error instanceof Problem || signal?.aborted) throw error;
    throw new Problem("offline");
  }
}

async function ask(path, request = {}) {
  for (;;) {
    const tried = heldKey();
    try {
      return await once(path, request);
    } catch (problem) {
      if (problem.kind !== 401) throw problem;
      const given = heldKey() !== tried || (await askForKey({ refused: Boolean(tried) }));
      if (!given) throw problem;
    }
  }
}

export const rank = (query, signal) => ask("v1/rank", { method: "POST", body: query, signal });
export const judge = (verdict) => ask("v1/feedback", { method: "POST", body: verdict });
export const takeBack = (key) => ask(`v1/feedback/${encodeURIComponent(key)}`, { method: "DELETE" })
  .catch((problem) => {
    if (problem.kind !== 404) throw problem; // it is not there, which is what is wanted
  });
export const answer = (id) => ask(`v1/answers/${encodeURIComponent(id)}`);
export const stats = (days, signal) => ask(`v1/stats?days=${days}`, { signal });
export const titles = (words, limit, signal) =>
  ask(`v1/answers?${new URLSearchParams({ search: words, limit })}`, { signal });

const FIRST_WAIT = 3; // seconds, doubled with each failure in a row
const LONGEST_WAIT = 60;

const OWN_FAULT = new Set([400, 403, 404, 408, 413, 415, 422]); // of the request
const ASKS_FOR_KEY = new Set([401, 403]);

const WORDS = {
  offline: ["No connection to the service", "What you wrote is still here."],
  401: ["This service asks for a key", "Whoever runs it can give you one."],
  403: ["That is not allowed", "Ask whoever runs the service."],
  404: ["That is not here any more", "It was probably removed a moment ago."],
  413: ["That is more text than the service takes", "Keep the part that says what is wrong."],
  422: ["The service could not work with that", "Change it a little and try again."],
  429: ["That was a lot in a short time", "Nothing is lost."],
  503: ["The service is busy right now", "What you wrote is still here."],
};

/** Title and sentence for a problem. */
export function wordsFor(problem) {
  const [title, then] = WORDS[problem.kind] ?? [
    "Something went wrong in the service",
    problem.request ? `Whoever runs it can look for request ${problem.request}.` : "Try again soon.",
  ];
  const says = OWN_FAULT.has(problem.kind) && problem.message; // the service knows it best
  return [title, says ? `${says[0].toUpperCase()}${says.slice(1)}.` : then];
}

/**
 * A notice in a place, that tries again by itself where that helps.
 *
 * @param {HTMLElement} place emptied first
 * @param {Problem} problem
 * @param {() => void} again
 * @param {number} failures in a row
 * @returns {() => void} stops the waiting
 */
export function showProblem(place, problem, again, failures = 1) {
  const [title, then] = wordsFor(problem);
  const left = el("span", { class: "left" });
  const button = el("button", { type: "button", class: "plain", onclick: () => go() }, "Try now");
  const box = el("div", { class: "notice" },
    el("p", { class: "title" }, title), el("p", {}, then, " ", left));
  place.replaceChildren(box);
  place.hidden = false;
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    removeEventListener("online", go);
  };
  async function go() {
    if (ASKS_FOR_KEY.has(problem.kind) && !(await askForKey())) return;
    stop();
    again();
  }
  if (problem.passes) {
    const least = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failures - 1));
    const end = Date.now() + 1000 * (problem.wait ?? least);
    const tick = () => {
      const seconds = Math.ceil((end - Date.now()) / 1000);
      left.textContent = `Trying again in ${Math.max(1, seconds)} s.`;
      if (seconds <= 0) go();
    };
    tick();
    timer = setInterval(tick, 500);
    addEventListener("online", go);
    box.append(button);
  } else if (problem.kind === 401 || (problem.kind === 403 && heldKey())) {
    button.textContent = "Give another key";
    box.append(button);
  } else if (!OWN_FAULT.has(problem.kind)) {
    box.append(button);
  }
  say(`${title}. ${then} ${left.textContent}`);
  return stop;
}

/** Where words stand in a text, whatever white space is between them; null if they do not. */
function find(text, words) {
  const pattern = words.trim().split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const match = words.trim() ? new RegExp(pattern.join("\\s+")).exec(text) : null;
  return match && [match.index, match.index + match[0].length];
}

/** Paragraphs of a text; in the one that holds the sentence it is marked. */
function paragraphs(text, sentence) {
  const span = sentence ? find(text, sentence) : null;
  let start = 0;
  return text.split("\n").filter(Boolean).map((line) => {
    const from = text.indexOf(line, start);
    start = from + line.length;
    if (!span || span[1] <= from || span[0] >= start) return el("p", {}, line);
    const [left, right] = [Math.max(0, span[0] - from), Math.min(line.length, span[1] - from)];
    return el("p", {}, line.slice(0, left), el("mark", {}, line.slice(left, right)), line.slice(right));
  });
}

/**
 * A whole answer, by its sections where it has any.
 *
 * @param {{text: string, sections: {title: string, text: string}[]}} answer
 * @param {{section: string | null, sentence: string | null}} best
 * @param {string} heading the element of sections' titles
 * @returns {HTMLElement[]}
 */
export function wholeText(answer, { section = null, sentence = null } = {}, heading = "h4") {
  if (!answer.sections?.length) return paragraphs(answer.text, sentence);
  const holds = (part) => sentence && find(part.text, sentence);
  const best =
    answer.sections.find((part) => part.title === (section ?? "") && holds(part)) ??
    answer.sections.find(holds);
  return answer.sections.flatMap((part) => [
    part.title && el(heading, {}, part.title),
    ...paragraphs(part.text, part === best ? sentence : null),
  ]).filter(Boolean);
}
