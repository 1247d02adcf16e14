// The search of a twinrank service in any page, by one tag, which depends on nothing:
//   <script defer src="https://SERVICE/widget.js"></script>
// It stands where the tag stands, or in the element that data-into names; docs/guides/widget.md.

(() => {
  const script = document.currentScript;
  const service = new URL(".", script.src);
  const {
    into, key, type, count = "5", label = "Search the help centre", feedback, target = "_self",
  } = script.dataset;

  const STYLE = `
    :host { --_accent: var(--twinrank-accent, light-dark(#1f5fbf, #8ab4f8)); --_text: var(--twinrank-text, inherit);
      --_line: var(--twinrank-line, color-mix(in srgb, currentColor 22%, transparent));
      --_radius: var(--twinrank-radius, .5rem);
      display: block; color: var(--_text); font: var(--twinrank-font, inherit); line-height: 1.5; }
    * { box-sizing: border-box; }
    label { display: block; font-weight: 600; margin-bottom: .3em; }
    input { width: 100%; padding: .6em .8em; font: inherit; color: inherit; background: transparent;
      border: 1px solid color-mix(in srgb, currentColor 55%, transparent); border-radius: var(--_radius); }
    :focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
    ol { list-style: none; margin: .8em 0 0; padding: 0; display: grid; gap: .7em; }
    li { border: 1px solid var(--_line); border-radius: var(--_radius); padding: .7em .9em; }
    a, .title { color: var(--_accent); font: inherit; font-weight: 600; text-align: start;
      overflow-wrap: anywhere; }
    .title { background: none; border: 0; padding: 0; cursor: pointer; text-decoration: underline; }
    p { margin: .3em 0 0; overflow-wrap: anywhere; white-space: pre-line; }
    .said { min-height: 1.5em; font-size: .9em; opacity: .8; }
    .helped { display: flex; flex-wrap: wrap; gap: .6em; align-items: center; margin-top: .5em; font-size: .9em; }
    .helped button, .again { font: inherit; color: inherit; background: transparent; cursor: pointer;
      border: 1px solid var(--_line); border-radius: var(--_radius); padding: .2em .8em; min-height: 24px; }
  `;

  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };

  async function call(path, body, signal) {
    const reply = await fetch(new URL(path, service), {
      method: body ? "POST" : "GET",
      headers: {
        ...(body && { "Content-Type": "application/json" }),
        ...(key && { Authorization: `Bearer ${key}` }),
      },
      body: body && JSON.stringify(body),
      credentials: "omit", referrerPolicy: "no-referrer", signal,
    });
    if (!reply.ok) throw Object.assign(new Error(`HTTP ${reply.status}`), { status: reply.status });
    return reply.json();
  }

  /** An address of the web, or nothing: no other may be followed. */
  function safe(url) {
    try {
      const address = new URL(url ?? "", document.baseURI);
      return url && ["http:", "https:"].includes(address.protocol) ? address.href : null;
    } catch {
      return null;
    }
  }

  const host = el("div", { class: "twinrank-widget" });
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet(); // needs no leave of a content security policy
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];

  const input = el("input", {
    id: "question", type: "search", maxlength: "2000", autocomplete: "off", enterkeyhint: "search",
  });
  const said = el("p", { class: "said", role: "status" });
  const list = el("ol");
  const form = el("form", { role: "search", onsubmit: (event) => { event.preventDefault(); ask(); } },
    el("label", { for: "question" }, label), input);
  root.append(form, said, list);

  let running = null;
  let asked = "";

  function fail(problem) {
    const late = problem.status === 429;
    const refused = problem.status === 401 || problem.status === 403;
    said.replaceChildren(
      late ? "Many people are searching just now. " : "The search does not answer just now. ",
      ...(refused ? [] : [el("button", { class: "again", type: "button", onclick: () => ask() }, "Try again")]));
    console.warn("twinrank:", problem.message);
  }

  async function ask() {
    const text = input.value.trim();
    running?.abort();
    asked = text;
    if (!text) {
      list.replaceChildren();
      said.textContent = "";
      return;
    }
    running = new AbortController();
    const { signal } = running;
    try {
      const found = await call("v1/rank", { text, k: Number(count), ...(type && { type }) }, signal);
      if (signal.aborted) return;
      const meant = new Set(found.ask.map(({ id }) => id));
      list.replaceChildren(...found.answers.map((answer) => item(answer, text, found)));
      const { length } = found.answers;
      said.textContent = length === 0 ? "Nothing was found. Try other words."
        : meant.size ? `Which of these is meant? ${found.ask.map(({ title }) => `“${title}”`).join(" or ")}`
          : `${length} ${length === 1 ? "answer" : "answers"}`;
    } catch (problem) {
      if (!signal.aborted) fail(problem);
    }
  }

  function item(answer, text, found) {
    const url = safe(answer.url);
    const name = answer.title || answer.id;
    const body = el("p", {}, answer.sentence ?? "");
    const title = url
      ? el("a", { href: url, target, rel: "noopener" }, name)
      : el("button", { class: "title", type: "button", "aria-expanded": "false", onclick: open }, name);
    async function open() {
      try {
        body.textContent = (await call(`v1/answers/${encodeURIComponent(answer.id)}`)).text;
        title.setAttribute("aria-expanded", "true");
      } catch (problem) {
        fail(problem);
      }
    }
    return el("li", {}, title, body, ...(feedback === undefined ? [] : [helped(answer, text, found)]));
  }

  /** Whether an answer helped; what is said is a verdict, and a key of its own tells it apart. */
  function helped({ id }, text, { answers, ranker }) {
    const row = el("div", { class: "helped", role: "group", "aria-label": "Did this help?" }, "Did this help?");
    const give = async (right) => {
      const digits = crypto.getRandomValues(new Uint32Array(4)); // randomUUID asks for https
      const verdict = { key: [...digits].map((part) => part.toString(36)).join("-"), text, answer: id, right, ranker };
      try {
        await call("v1/feedback", { ...verdict, shown: answers.map((shown) => shown.id), ...(type && { type }) });
        row.replaceChildren(el("span", { role: "status" }, "Thank you."));
      } catch (problem) {
        fail(problem);
      }
    };
    row.append(...[["Yes", true], ["No", false]].map(([word, right]) =>
      el("button", { type: "button", onclick: () => give(right) }, word)));
    return row;
  }

  let quiet;
  input.addEventListener("input", () => {
    clearTimeout(quiet);
    quiet = setTimeout(() => input.value.trim() !== asked && ask(), 250);
  });
  root.addEventListener("keydown", (event) => {
    const stops = [input, ...list.querySelectorAll("a, .title")];
    const at = stops.indexOf(root.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Escape: 0 }[event.key];
    if (at < 0 && event.key !== "Escape") return;
    if (next !== undefined && stops[next]) {
      event.preventDefault();
      stops[next].focus();
    }
  });

  const place = () => {
    const home = into && document.querySelector(into);
    if (home) home.append(host);
    else if (script.closest("head")) document.body.append(host);
    else script.after(host);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", place);
  else place();
})();
