// The page: reads a question or a conversation, asks for a ranking, shows it or what went wrong.

import { clear, show } from "./answers.js";
import { $, offerToForget, rank, settled, showProblem } from "./common.js";
import { conversation } from "./conversation.js";

const PAUSE = 450; // milliseconds of quiet in a conversation before it is ranked

const narrow = matchMedia("(max-width: 60rem)"); // the answers are below, not beside
let running = null; // the request whose ranking is awaited
let waiting = () => {}; // stops what tries again after a failure
let last = ""; // what was asked last, as it was sent

const turns = conversation($("#turns"), settled(PAUSE, () => ask()));
const talking = () => $("#conversation-mode").checked;

function query() {
  if (!talking()) return { text: $("#question").value.trim(), type: "question" };
  return { turns: turns.read(), type: "conversation" };
}

/** The filter as the service takes it: `locale = da; brand = acme, globex` has two fields. */
function where() {
  const parts = $("#where").value.split(";").filter((part) => part.trim());
  return Object.fromEntries(parts.map((part) => {
    const [field, ...values] = part.split("=");
    return [field.trim(), values.join("=").split(",").map((value) => value.trim()).filter(Boolean)];
  }));
}

const options = () => ({
  k: Number($("#how-many").value),
  min_confidence: Number($("#at-least").value),
  where: where(),
});

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
}

async function ask({ anew = false, failures = 0, follows = talking() } = {}) {
  const asked = query();
  const sent = JSON.stringify([asked, options()]);
  if (!(asked.text || asked.turns?.length)) return empty();
  if (sent === last && !anew) return;
  stop();
  last = sent;
  const request = new AbortController();
  running = request;
  $("#results").setAttribute("aria-busy", "true");
  try {
    const reply = await rank({ ...asked, ...options() }, request.signal);
    if (request !== running) return;
    if ($("#problem").contains(document.activeElement)) $("#results").focus();
    $("#problem").hidden = true;
    $("#welcome").hidden = true;
    if (!follows) clear();
    show(reply, { query: asked, words: asked.text ?? asked.turns.at(-1).text, follows });
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

function switchMode() {
  const text = $("#question").value.trim();
  $("#ask").hidden = talking();
  $("#talk").hidden = !talking();
  empty();
  if (talking() && text && !turns.read().length) turns.start(text);
  ask();
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
  empty();
  turns.start().focus();
});
for (const mode of document.getElementsByName("mode")) mode.addEventListener("change", switchMode);
$("#how-many").addEventListener("change", () => ask());
$("#at-least").addEventListener("change", () => ask());
$("#where").addEventListener("change", () => ask());

offerToForget();
turns.start();
if (talking()) switchMode(); // a browser keeps the choice over a reload
