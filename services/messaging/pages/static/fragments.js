// Parts of a page that are fetched again as HTML when an event names what changed.
import { SignedOut, ask, parse } from "./net.js";
import { keepTyping } from "./forms.js";
import { refreshDetail, refreshQueue } from "./queue.js";

const pending = new Map();

// One fetch a fragment at a time; changes that come meanwhile ask once more.
function again(key, work) {
  if (pending.has(key)) { pending.set(key, true); return Promise.resolve(); }
  pending.set(key, false);
  return work().catch((problem) => { if (!(problem instanceof SignedOut)) console.info("fragment", key, problem.message); })
    .finally(() => { const more = pending.get(key); pending.delete(key); if (more) return again(key, work); });
}

export function fill(element, html) {
  const atBottom = element.hasAttribute("data-bottom");
  const scrolls = [...element.querySelectorAll("[data-keep-scroll]")].map((box) => box.scrollLeft);
  const open = [...element.querySelectorAll("details[open]")].map((box) => box.dataset.stay);
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const href = active?.getAttribute("href"), id = active?.id;
  element.replaceChildren(parse(html));
  keepTyping(element);
  for (const box of element.querySelectorAll("details")) if (box.dataset.stay && open.includes(box.dataset.stay)) box.open = true;
  element.querySelectorAll("[data-keep-scroll]").forEach((box, n) => { box.scrollLeft = scrolls[n] ?? 0; });
  if (atBottom) toBottom(element);
  if (active) (id && document.getElementById(id) || href && element.querySelector(`[href="${CSS.escape(href)}"]`) || element.querySelector("[aria-current]"))?.focus({ preventScroll: true });
}

function toBottom(element) {
  const list = element.querySelector(".talk");
  if (list) list.scrollTop = list.scrollHeight;
}

async function load(element) {
  const response = await ask(element.dataset.fragment, { live: true });
  if (response.ok) fill(element, await response.text());
}

// Kinds that changed, and of which member where that is known.
export function refresh(kinds, memberId = null) {
  const wanted = [...document.querySelectorAll("[data-fragment]")].filter((element) => {
    if (memberId && element.dataset.member && element.dataset.member !== memberId) return false;
    return kinds.includes("all") || element.dataset.on.split(" ").some((kind) => kinds.includes(kind));
  });
  const works = wanted.map((element) => again(element.dataset.fragment, () => load(element)));
  if (kinds.includes("alert") || kinds.includes("all")) {
    works.push(again("queue", refreshQueue), again("detail", refreshDetail));
  }
  return Promise.all(works);
}

export function fragments() {
  document.querySelectorAll("[data-bottom]").forEach(toBottom);
  // A chain or an event of it: the same link that works without script, fetched as its fragment.
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.("a[data-chain]");
    const body = document.getElementById("chain-body");
    if (!link || !body || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const address = new URL(link.href?.baseVal ?? link.href, location.href);
    body.dataset.fragment = body.dataset.fragment.split("?")[0] + address.search;
    history.replaceState(null, "", address.pathname + address.search);
    const href = link.getAttribute("href");
    await load(body);
    body.querySelector(`[href="${CSS.escape(href)}"]`)?.focus({ preventScroll: true });
  });
  document.addEventListener("submit", async (event) => {
    const address = event.target.dataset.slots;
    if (!address) return;
    event.preventDefault();
    const response = await ask(`${address}?with=${encodeURIComponent(event.target.elements.with.value)}`);
    if (response.ok) document.getElementById("slots").replaceChildren(parse(await response.text()));
  });
}
