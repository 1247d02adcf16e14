// The page: has a question or a conversation ranked, shows the ranking or what went wrong, keeps what is
// asked in the address and on this machine, and obeys single keys.

import { clear, goTo, show } from "./answers.js";
import { $, el, offerToForget, rank, RECENT, say, settled, showProblem } from "./common.js";
import { conversation } from "./conversation.js";

const PAUSE = 450; // milliseconds of quiet in a conversation before it is ranked
const MOST_RECENT = 8;
const KEYS = "twinrank-keys"; // in the browser's store, once single keys are off

const narrow = matchMedia("(max-width: 60rem)"); // the answers are below, not beside
let running = null; // the request whose ranking is awaited
let waiting = () => {}; // stops what tries again after a failure
let last = ""; // what was asked last, as the fragment of the address

const turns = conversation($("#turns"), settled(PAUSE, () => ask()));
const talking = () => $("#conversation-mode").checked;
const field = () => $(talking() ? "#turns li:last-child textarea" : "#question");

function query() {
  if (!talking()) return { text: $("#question").value.trim(), type: "question" };
  return { turns: turns.read(), type: "conversation" };
}

const isEmpty = ({ text, turns: written }) => !(text || written?.length);

/** The filter as the service takes it: `locale = da; brand = acme, globex` has two fields. */
function where() {
  const parts = $("#where").value.split(";").filter((part) => part.trim());
  const fields = parts.map((part) => {
    const [field, ...values] = part.split("=");
    return [field.trim(), values.join("=").split(",").map((value) => value.trim()).filter(Boolean)];
  });
  const isBad = fields.some(([name, values]) => !name || !values.length);
  $("#where").setCustomValidity(isBad ? "Write a field, = and a value, such as locale = da" : "");
  if (isBad) $(".options").open = true;
  return $("#where").reportValidity() && Object.fromEntries(fields);
}

/** A query as the fragment of an address, which reaches no server, and no log. */
function toFragment({ text, turns: written = [] }) {
  const parts = new URLSearchParams(text ? { text } : {});
  for (const turn of written) parts.append("turn", `${turn.role}:${turn.text}`);
  if ($("#where").value) parts.set("where", $("#where").value);
  return `#${parts}`;
}

function readFragment(hash) {
  const parts = new URLSearchParams(hash.slice(1));
  const written = parts.getAll("turn").map((turn) => turn.split(/:([^]*)/));
  return {
    text: parts.get("text") ?? "",
    turns: written.map(([role, text = ""]) => ({ role: role || "User", text })),
    where: parts.get("where") ?? "",
  };
}

/** Asks what the address holds: after a reload, by a link, with Back. */
function restore() {
  const kept = readFragment(location.hash);
  $("#where").value = kept.where;
  if (kept.where) $(".options").open = true;
  if (!isEmpty(kept)) $(kept.text ? "#question-mode" : "#conversation-mode").checked = true;
  $("#question").value = kept.text;
  turns.fill(kept.turns);
  showMode();
  ask({ anew: true, follows: false });
}

const recent = () => JSON.parse(localStorage.getItem(RECENT) ?? "[]"); // fragments, the newest first

/** Keeps a fragment on this machine, in the place of the same conversation a turn before. */
function remember(hash, before) {
  const others = recent().filter((one) => one !== hash && one !== before);
  localStorage.setItem(RECENT, JSON.stringify([hash, ...others].slice(0, MOST_RECENT)));
}

/** Lists the last questions where nothing is written. */
function showRecent() {
  const list = isEmpty(query()) ? recent() : [];
  $("#recent").hidden = !list.length;
  $("#recent ol").replaceChildren(...list.map((href) => {
    const { text, turns: written } = readFragment(href);
    const again = () => href === location.hash && restore(); // else the address changes
    return el("li", {}, el("a", { href, onclick: again }, text || written.map((turn) => turn.text).join(" · ")));
  }));
}

function stop() {
  running?.abort();
  running = null;
  waiting();
  $("#results").setAttribute("aria-busy", "false");
}

function empty() {
  stop();
  last = "";
  clear();
  $("#problem").hidden = true;
  $("#welcome").hidden = false;
  if (location.hash) history.pushState(null, "", location.pathname);
  showRecent();
}

async function ask({ anew = false, failures = 0, follows = talking() } = {}) {
  const asked = query();
  if (isEmpty(asked)) return empty();
  const filter = where();
  const hash = toFragment(asked);
  if (!filter || (hash === last && !anew)) return;
  const before = follows && last; // of the same conversation
  stop();
  last = hash;
  if (hash !== location.hash) history[before ? "replaceState" : "pushState"](null, "", hash);
  showRecent();
  const request = new AbortController();
  running = request;
  $("#results").setAttribute("aria-busy", "true");
  try {
    const reply = await rank({ ...asked, where: filter }, request.signal);
    if (request !== running) return;
    if ($("#problem").contains(document.activeElement)) $("#results").focus();
    $("#problem").hidden = true;
    $("#welcome").hidden = true;
    if (!follows) clear();
    show(reply, { query: asked, words: asked.text ?? asked.turns.at(-1).text, follows });
    remember(hash, before);
    if (!follows && narrow.matches) $("#results").scrollIntoView({ block: "start" });
  } catch (problem) {
    if (request.signal.aborted) return;
    $("#welcome").hidden = true;
    const again = () => ask({ anew: true, failures: failures + 1, follows });
    waiting = showProblem($("#problem"), problem, again, failures + 1);
  } finally {
    if (request === running) $("#results").setAttribute("aria-busy", "false");
  }
}

function showMode() {
  $("#ask").hidden = talking();
  $("#talk").hidden = !talking();
}

function switchMode() {
  const text = $("#question").value.trim();
  showMode();
  if (talking() && text && !turns.read().length) turns.fill([{ role: "User", text }]);
  last = "";
  clear();
  ask();
}

/** Obeys a single key, unless somebody types; `y` and `n` are about the answer that has the focus. */
function obey(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
  if (key === "Escape" && target.matches("textarea")) goTo(1, { open: false });
  if (!$("#keys").checked || target.closest("input, textarea, select, dialog")) return;
  const press = (look) => target.closest(".answer")?.querySelector(look).click();
  if (key === "/") {
    event.preventDefault(); // it would be typed
    field().focus();
  } else if (/^[1-5]$/.test(key)) goTo(Number(key));
  else if (key === "y") press(".thumb.up");
  else if (key === "n") press(".thumb.down");
}

$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask({ anew: true });
});
$("#question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask({ anew: true });
});
$("#add-turn").addEventListener("click", () => turns.addNext());
$("#start-over").addEventListener("click", () => {
  turns.fill().focus();
  empty();
});
for (const mode of document.getElementsByName("mode")) mode.addEventListener("change", switchMode);
$("#where").addEventListener("change", () => ask());
$(".write").addEventListener("input", showRecent);
$("#forget-recent").addEventListener("click", () => {
  localStorage.removeItem(RECENT);
  showRecent();
  field().focus();
  say("Forgotten.");
});
$("#keys").checked = !localStorage.getItem(KEYS);
$("#keys").addEventListener("change", ({ target }) => localStorage.setItem(KEYS, target.checked ? "" : "off"));
addEventListener("keydown", obey);
addEventListener("popstate", restore);

offerToForget();
turns.fill();
if (location.hash) restore();
else if (talking()) switchMode(); // a browser keeps the choice over a reload
else showRecent();
