// One stream a window, with a durable cursor: after any disconnect the server goes on after the last number we saw.
import { refresh } from "./fragments.js";

const words = document.body.dataset;
const state = (name, text) => {
  for (const line of document.querySelectorAll("[data-line]")) {
    if (line.dataset.line === name) continue;
    line.dataset.line = name;
    line.textContent = text;
  }
};

let source = null, cursor = words.cursor, wait = 500, timer = null, late = null, ended = false;

function seen(event) {
  if (event.lastEventId) cursor = event.lastEventId;
}

function connect() {
  source?.close();
  source = new EventSource(`${words.live}?after=${encodeURIComponent(cursor)}`);
  source.addEventListener("open", () => { wait = 500; clearTimeout(late); late = null; state("on", words.lineOn); });
  source.addEventListener("change", (event) => {
    seen(event);
    const change = JSON.parse(event.data);
    refresh([change.kind], change.member_id);
  });
  source.addEventListener("reset", (event) => { seen(event); refresh(["all"]); });
  source.addEventListener("ready", seen);
  source.addEventListener("error", () => {
    if (ended) return;
    // The server ends a stream now and then on purpose; only a gap that lasts is worth a word.
    const since = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    late ??= setTimeout(() => { if (!ended) state("off", words.lineOff.replace("#", since)); }, 2000);
    // A refused stream is not tried again by the browser: find out why, then try again ourselves.
    if (source.readyState === EventSource.CLOSED) {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        wait = Math.min(wait * 2, 10000);
        try {
          const answer = await fetch("/console/fragments/count", { headers: { "X-Console": "1", "X-Console-Live": "1" } });
          if (answer.status === 401) return out();
        } catch { /* still offline */ }
        connect();
      }, wait);
    }
  });
}

function out() {
  ended = true;
  clearTimeout(late);
  late = null;
  source?.close();
  state("out", words.lineOut);
  const again = Object.assign(document.createElement("a"), { href: "/console/sign-in", target: "_blank", rel: "noopener", textContent: " →" });
  for (const line of document.querySelectorAll("[data-line]")) line.append(again.cloneNode(true));
}

// Signed in again in another tab: coming back to this one goes on where it was.
async function back() {
  if (!ended || document.visibilityState !== "visible") return;
  const answer = await fetch(location.href, { headers: { "X-Console": "1" } }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const token = page.querySelector("input[name=form_token]")?.value;
  if (!token) return;
  for (const field of document.querySelectorAll("input[name=form_token]")) field.value = token;
  ended = false;
  connect();
}

export function live() {
  if (!words.live) return;
  connect();
  document.addEventListener("signed-out", out);
  document.addEventListener("visibilitychange", back);
  addEventListener("online", () => { if (!ended && source.readyState !== EventSource.OPEN) connect(); });
  // A page that comes back from the browser's memory may be old.
  addEventListener("pageshow", (event) => { if (event.persisted) { connect(); refresh(["all"]); } });
  addEventListener("pagehide", () => source?.close());
}
