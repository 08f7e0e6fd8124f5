// Fetching from the console: says who we are, keeps the clock, and tells when the session has ended.
import { setClock } from "./times.js";

export class SignedOut extends Error {}

export async function ask(address, { live = false, ...options } = {}) {
  const headers = { "X-Console": "1", ...(live ? { "X-Console-Live": "1" } : {}), ...(options.headers ?? {}) };
  const response = await fetch(address, { ...options, headers, redirect: "error" });
  setClock(response);
  if (response.status === 401) {
    document.dispatchEvent(new CustomEvent("signed-out"));
    throw new SignedOut();
  }
  return response;
}

export function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

export function toast(html) {
  const place = document.getElementById("toasts");
  place.replaceChildren(parse(html));
  const shown = place.firstElementChild;
  const undo = shown?.querySelector("form");
  setTimeout(() => { if (shown?.isConnected && !shown.matches(":focus-within, :hover")) shown.remove(); }, undo ? 10000 : 6000);
}

export function say(text) {
  const box = document.createElement("div");
  box.className = "toast refused";
  box.append(Object.assign(document.createElement("span"), { textContent: text }));
  document.getElementById("toasts").replaceChildren(box);
}
