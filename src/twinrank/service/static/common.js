// What both pages share: elements, the key, requests to the service, and notices of what went wrong.
// Elements are built, never parsed: what people wrote can only ever become text.

const SVG = "http://www.w3.org/2000/svg";

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

/** The address, where it is one of the web; null where it is anything else. */
export function webAddress(url) {
  const address = url && URL.canParse(url) && new URL(url);
  return address && ["http:", "https:"].includes(address.protocol) ? address.href : null;
}

/** A link where the address is one of the web; the bare words where it is anything else. */
export function linked(words, url) {
  const href = webAddress(url);
  return href ? el("a", { href, target: "_blank", rel: "noopener noreferrer" }, words) : words;
}

const ICONS = {
  check: "M4.5 12.5l5 5 10-11",
  close: "M6 6l12 12M18 6L6 18",
};

export const icon = (name) =>
  svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }));

/** A panel that opens under its words; `opened` runs each time it opens. */
export const folded = (words, panel, opened = () => {}) =>
  el("details", { ontoggle: (event) => event.target.open && opened() },
    el("summary", {}, words), panel);

/** Tells those who listen rather than look. */
export function say(words) {
  $("#spoken").textContent = words;
}

/** Runs the last of many calls, once none has come for so many milliseconds. */
export function settled(milliseconds, work) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}

export const percent = (share) => `${Math.round(100 * share)}%`;
export const count = (number) => number.toLocaleString("en");
export const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

const PLACE = "twinrank-key";
export const RECENT = "twinrank-recent"; // questions that this machine keeps
let asking = null; // one dialog, however many requests wait for it

const heldKey = () => sessionStorage.getItem(PLACE);

/** Asks for a key; true when one was given. */
function askForKey(refused = false) {
  asking ??= askOnce(refused).finally(() => (asking = null));
  return asking;
}

async function askOnce(refused) {
  const hint = refused
    ? "That key was not accepted. Check it, or ask whoever runs the service."
    : "Whoever runs the service can give you one. It is kept until you close this tab.";
  const input = el("input", {
    id: "key", type: "password", autocomplete: "off", required: true, pattern: ".*\\S.*",
    "aria-describedby": "key-hint",
  });
  const box = el("dialog", { "aria-labelledby": "key-title" },
    el("form", { method: "dialog" },
      el("h2", { id: "key-title" }, "This service asks for a key"),
      el("label", { for: "key" }, "Key"), input,
      el("p", { id: "key-hint", class: refused ? "bad" : "hint" }, hint),
      el("div", { class: "row" },
        el("button", { class: "main", value: "given" }, "Use this key"),
        el("button", { class: "quiet", formnovalidate: true }, "Not now"))));
  document.body.append(box);
  box.showModal();
  await new Promise((resolve) => box.addEventListener("close", resolve));
  const given = box.returnValue === "given";
  if (given) sessionStorage.setItem(PLACE, input.value.trim());
  box.remove();
  offerToForget();
  return given;
}

/** A button in the head of the page, while a key is held; with it go the questions asked. */
export function offerToForget() {
  const button = $("#forget");
  button.hidden = !heldKey();
  button.onclick = () => {
    sessionStorage.removeItem(PLACE);
    localStorage.removeItem(RECENT);
    location.replace(location.pathname);
  };
}

const PATIENCE = 30_000; // milliseconds until a reply is given up

/** Why there is no reply. `kind` is an HTTP status, or `offline`; `wait` is in seconds. */
class Problem extends Error {
  constructor(kind, detail = "", headers = new Headers()) {
    super(detail);
    this.kind = kind;
    this.wait = Number(headers.get("Retry-After"));
    this.request = headers.get("X-Request-ID");
  }

  /** Whether the same request may do better a little later. */
  get passes() {
    return ["offline", 429, 502, 503, 504].includes(this.kind);
  }
}

async function once(path, { method = "GET", body, signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  if (heldKey()) headers.Authorization = `Bearer ${heldKey()}`;
  const ends = [AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])];
  try {
    const text = body && JSON.stringify(body);
    const reply = await fetch(path, { method, headers, body: text, signal: AbortSignal.any(ends) });
    if (reply.ok) return reply.status === 204 ? null : await reply.json();
    const said = await reply.json().catch(() => null);
    throw new Problem(reply.status, said?.detail, reply.headers);
  } catch (error) {
    if (error instanceof Problem || signal?.aborted) throw error;
    throw new Problem("offline");
  }
}

async function ask(path, request) {
  for (;;) {
    const tried = heldKey();
    try {
      return await once(path, request);
    } catch (problem) {
      if (problem.kind !== 401) throw problem;
      const given = heldKey() !== tried || (await askForKey(Boolean(tried)));
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
export const fetchAnswer = (id) => ask(`v1/answers/${encodeURIComponent(id)}`);
export const putAnswer = (id, answer) =>
  ask(`v1/answers/${encodeURIComponent(id)}?plain=true`, { method: "PUT", body: answer });
export const misses = (which) => ask(`v1/misses?${new URLSearchParams(which)}`);
export const learning = () => ask("v1/learning");
export const shadow = () => ask("v1/shadow");
export const gaps = () => ask("v1/gaps");
export const rules = () => ask("v1/rules");
export const putRules = (changed) => ask("v1/rules", { method: "PUT", body: changed });
export const rollBack = (version) =>
  ask(`v1/learning/rollback?${new URLSearchParams({ version })}`, { method: "POST" });
export const stats = (days, signal) => ask(`v1/stats?days=${days}`, { signal });
export const titles = (words, limit, signal) =>
  ask(`v1/answers?${new URLSearchParams({ search: words, limit })}`, { signal });

const FIRST_WAIT = 3; // seconds, doubled with each failure in a row
const LONGEST_WAIT = 60;
const OWN_FAULT = new Set([400, 403, 404, 408, 413, 415, 422]); // of the request
const WORDS = {
  offline: ["No connection to the service", "What you wrote is still here."],
  401: ["This service asks for a key", "Whoever runs it can give you one."],
  403: ["That is not allowed", "Ask whoever runs the service."],
  404: ["That is not here any more", "It was probably removed a moment ago."],
  409: ["Somebody else changed that meanwhile", "Copy what you wrote, and load it again."],
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
  const known = OWN_FAULT.has(problem.kind) && problem.kind !== 404 && problem.message; // it knows best
  const says = known && known.replace(/\w+ should have at most (\d+ \w+).*/, "more than $1; leave some out");
  return [title, says ? `${says[0].toUpperCase()}${says.slice(1)}.` : then];
}

/**
 * A notice in a place. Where that helps it is tried again by itself, later after more failures in a row,
 * after infinitely many never. Returns what stops the waiting.
 */
export function showProblem(place, problem, again, failures = 1) {
  const [title, then] = wordsFor(problem);
  const otherKey = problem.kind === 401 || (problem.kind === 403 && heldKey());
  const seconds = problem.wait || Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failures - 1));
  const waits = problem.passes && failures < Infinity;
  const words = waits ? `${then} Trying again in ${seconds} s.` : then;
  const stop = () => {
    clearTimeout(timer);
    removeEventListener("online", go);
  };
  const go = async () => {
    if (otherKey && !(await askForKey())) return;
    stop();
    again();
  };
  const timer = waits && setTimeout(go, 1000 * seconds);
  if (waits) addEventListener("online", go);
  place.replaceChildren(el("div", { class: "notice" },
    el("p", { class: "title" }, title), el("p", {}, words),
    (otherKey || !OWN_FAULT.has(problem.kind)) && el("button", { type: "button", class: "plain", onclick: go },
      otherKey ? "Give another key" : "Try now")));
  place.hidden = false;
  say(`${title}. ${words}`);
  return stop;
}

const WEB = /(https?:\/\/(?:[^\s<>"()]|\([^\s<>"()]*\))*(?:[^\s<>"().,;:!?'’”»\]]|\([^\s<>"()]*\)))/;
const ITEM = /^\s*(?:[-–*•·]|(\d{1,3})[.)])\s+/;

/** A text as nodes: its addresses are links, and the sentence, where it stands in it, is marked. */
function inline(text, sentence) {
  if (!sentence) return text.split(WEB).map((part, i) => (i % 2 ? linked(part, part) : part));
  const best = sentence.includes(text) ? text : sentence.replace(ITEM, "");
  const [before, ...after] = text.split(best);
  if (!after.length) return inline(text);
  return [...inline(before), el("mark", {}, inline(best)), ...inline(after.join(best))];
}

/** Paragraphs, lists and tables of a text, in which each has lines as the importer writes them. */
function blocks(text, sentence) {
  const blocks = [];
  const lines = text.split("\n");
  const cells = lines.map((line) => line.split(" | "));
  const best = sentence ? lines.findIndex((line) => line.includes(sentence)) : -1;
  lines.forEach((line, i) => {
    if (!line.trim()) return;
    const isLike = (j) => cells[j]?.length === cells[i].length;
    const isRow = cells[i].length > 1 && (isLike(i - 1) || isLike(i + 1));
    const [bullet, number] = ITEM.exec(line) ?? [""];
    const name = isRow ? "table" : number ? "ol" : bullet ? "ul" : "p";
    const goesOn = name !== "p" && blocks.at(-1)?.localName === name && lines[i - 1].trim();
    if (!goesOn) blocks.push(el(name, { class: "text", start: number }));
    const read = (part) => inline(part, i === best && sentence);
    blocks.at(-1).append(...(isRow ? [el("tr", {}, cells[i].map((cell) => el("td", {}, read(cell))))]
      : bullet ? [el("li", {}, read(line.slice(bullet.length)))] : read(line)));
  });
  return blocks;
}

/** A whole answer as elements, by its sections if it has any; the sentence that fits best is marked. */
export function wholeText({ text, sections = [] }, { section = null, sentence = null } = {}, heading = "h4") {
  const holding = sections.filter((part) => sentence && part.text.includes(sentence));
  const best = holding.find((part) => part.title === (section ?? "")) ?? holding[0];
  return sections.length ? sections.flatMap((part) => [
    ...(part.title ? [el(heading, {}, part.title)] : []),
    ...blocks(part.text, part === best && sentence),
  ]) : blocks(text, sentence);
}
