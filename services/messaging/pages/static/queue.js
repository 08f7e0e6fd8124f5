// The triage list. What is new never moves the row under the pointer or the focus: it waits behind a bar.
import { ask, parse } from "./net.js";
import { fill } from "./fragments.js";

const list = document.querySelector("[data-queue]");
const detail = document.getElementById("detail");
let waiting = null;

const rowsOf = (root) => [...root.querySelectorAll(".row[data-key]")];
export const rows = () => (list ? rowsOf(list).filter((row) => !row.classList.contains("gone")) : []);
export const current = () => list?.querySelector(".row.chosen") ?? null;
const held = () => list?.querySelector(".row:hover, .row:focus-within") ?? null;

export async function refreshQueue() {
  if (!list) return;
  const response = await ask(list.dataset.queue, { live: true });
  if (response.ok) take(parse(await response.text()));
}

// Rows that stand above the held one in the fresh list but not in the one shown would push it down.
function take(fresh) {
  const row = held();
  const known = new Set(rowsOf(list).map((r) => r.dataset.key));
  const key = row?.dataset.key;
  const order = rowsOf(fresh).map((r) => r.dataset.key);
  const shown = rowsOf(list).map((r) => r.dataset.key);
  const above = (keys) => JSON.stringify(keys.slice(0, keys.indexOf(key)));
  if (row && (!order.includes(key) || above(order) !== above(shown))) {
    waiting = fresh;
    mark(fresh, known, order);
    return;
  }
  place(fresh, known);
}

// While it waits: what is shown keeps its place but tells the truth about itself.
function mark(fresh, known, order) {
  const byKey = new Map(rowsOf(fresh).map((r) => [r.dataset.key, r]));
  for (const row of rowsOf(list)) {
    const other = byKey.get(row.dataset.key);
    row.classList.toggle("gone", !other);
    if (!other) continue;
    row.dataset.state = other.dataset.state;
    for (const part of [".meta", ".when", ".priority", ".what"]) {
      const mine = row.querySelector(part), theirs = other.querySelector(part);
      if (mine && theirs && mine.innerHTML !== theirs.innerHTML) mine.replaceWith(theirs.cloneNode(true));
    }
  }
  const count = order.filter((key) => !known.has(key)).length;
  const bar = list.querySelector(".new-bar");
  bar.hidden = count === 0;
  const words = document.body.dataset;
  bar.querySelector("button").textContent = count === 1 ? words.sayNewOne : words.sayNew.replace("#", count);
}

function place(fresh, known) {
  waiting = null;
  const chosen = current()?.dataset.key ?? detail?.dataset.alert;
  const focused = list.contains(document.activeElement) ? document.activeElement.closest(".row")?.dataset.key : null;
  for (const row of rowsOf(fresh)) if (!known.has(row.dataset.key)) row.classList.add("new");
  list.replaceChildren(fresh);
  choose(chosen);
  if (focused) find(focused)?.querySelector(".who").focus({ preventScroll: true });
}

const find = (key) => rowsOf(list).find((row) => row.dataset.key === key);

function choose(key) {
  for (const row of rowsOf(list)) {
    row.classList.toggle("chosen", row.dataset.key === key);
    const link = row.querySelector(".who");
    row.dataset.key === key ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }
}

export function showNew() {
  if (!waiting) return;
  place(waiting, new Set(rowsOf(list).map((r) => r.dataset.key)));
}

export async function open(row, { focusDetail = false } = {}) {
  choose(row.dataset.key);
  detail.dataset.alert = row.dataset.key;
  history.replaceState(null, "", "/console/?alert=" + row.dataset.key);
  const response = await ask("/console/fragments/alerts/" + row.dataset.key);
  if (!response.ok || detail.dataset.alert !== row.dataset.key) return;
  fill(detail, await response.text());
  detail.scrollTop = 0;
  if (focusDetail) {
    detail.focus({ preventScroll: true });
    if (matchMedia("(max-width: 1079px)").matches) detail.scrollIntoView({ block: "start" });
  }
}

const filling = () => detail.querySelector("details.act[open]") !== null;

// The open detail is fetched again, but never under somebody who is filling in a form of it: then when they are done.
export async function refreshDetail() {
  if (!detail?.dataset.alert || filling()) return;
  const asked = detail.dataset.alert;
  const response = await ask("/console/fragments/alerts/" + asked, { live: true });
  if (!response.ok) return;
  const html = await response.text();
  if (!filling() && detail.dataset.alert === asked) fill(detail, html);
}

// The alert asked again after this page was fetched: the detail is fetched although somebody is filling in a form of it,
// and what they chose and wrote stands in the fresh form, which knows what has been shown now.
export async function lookAgain(sentence) {
  const sheet = detail?.querySelector("details.act[open]");
  const asked = detail?.dataset.alert;
  if (!asked) return;
  const response = await ask("/console/fragments/alerts/" + asked);
  if (!response.ok || detail.dataset.alert !== asked) return;
  const typed = sheet && new FormData(sheet.querySelector("form"));
  fill(detail, await response.text());
  detail.scrollTop = 0;
  detail.focus({ preventScroll: true });
  // An emergency cannot be put off: its sheet is gone.
  const fresh = sheet && detail.querySelector(`details.act[data-key="${sheet.dataset.key}"]`);
  if (!fresh) return;
  fresh.open = true;
  for (const field of fresh.querySelectorAll("input[type=radio]")) field.checked = typed.get(field.name) === field.value;
  for (const field of fresh.querySelectorAll("textarea")) field.value = typed.get(field.name) ?? "";
  fresh.querySelector(".wrong").textContent = sentence;
}

export function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
  next.querySelector(".who").focus();
  next.scrollIntoView({ block: "nearest" });
  open(next);
}

export function queue() {
  if (!list) return;
  document.addEventListener("click", (event) => {
    if (event.target.id === "show-new") return showNew();
    const link = event.target.closest?.("[data-queue] .row .who");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(link.closest(".row"), { focusDetail: true });
  });
  detail.addEventListener("toggle", (event) => { if (!event.target.open) refreshDetail().catch(() => {}); }, true);
  // When nothing is held any more, what waited is placed by itself.
  for (const name of ["pointerleave", "focusout"]) {
    list.addEventListener(name, () => setTimeout(() => { if (waiting && !held()) showNew(); }, 400));
  }
}
