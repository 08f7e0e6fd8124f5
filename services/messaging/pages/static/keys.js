// The keyboard. Single letters never act while somebody types.
import { current, move, showNew } from "./queue.js";

const typing = (target) => target.closest("input:not([type=radio]), textarea, select, dialog") !== null;
const detail = () => document.getElementById("detail");

function act(key) {
  const place = detail()?.querySelector(`[data-key="${key}"]`);
  if (!place) return false;
  if (place.matches("form")) { place.requestSubmit(); return true; }
  place.open = !place.open;
  place.querySelector(place.open ? "input[type=radio], textarea" : "summary")?.focus();
  return true;
}

const actions = {
  j: () => move(1),
  k: () => move(-1),
  a: () => act("a"),
  s: () => act("s"),
  h: () => act("h"),
  r: () => act("r"),
  u: () => document.querySelector("form[data-undo]")?.requestSubmit(),
  n: () => showNew(),
  m: () => (detail()?.querySelector("[data-open-member]") ?? null)?.click(),
  "/": () => document.getElementById("search").focus(),
  "?": () => document.getElementById("keys").showModal(),
};

export function keys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape") {
      const sheet = event.target.closest?.("details.act[open]");
      if (sheet) { sheet.open = false; sheet.querySelector("summary").focus(); }
      else if (detail()?.contains(event.target)) current()?.querySelector(".who").focus();
      else if (event.target.id === "search") event.target.blur();
      return;
    }
    const action = actions[event.key];
    if (!action || typing(event.target)) return;
    event.preventDefault();
    action();
  });
}
