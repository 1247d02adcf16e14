// Says kindly what went wrong and what to do, and tries again when that helps.

import { askForKey, heldKey } from "./key.js";
import { el, say } from "./dom.js";

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
