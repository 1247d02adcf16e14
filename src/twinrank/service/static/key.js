// The service's key: asked for when it is needed, forgotten with the tab.

import { $, el } from "./dom.js";

const PLACE = "twinrank-key";
let asking = null; // one dialog, however many requests wait for it

export const heldKey = () => sessionStorage.getItem(PLACE);

/** Asks for a key; true when one was given. */
export function askForKey({ refused = false } = {}) {
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
