// Forms answer at once, and keep what was typed until it has been sent.
import { SignedOut, ask, say, toast } from "./net.js";
import { refresh } from "./fragments.js";
import { lookAgain } from "./queue.js";

const kept = (field) => "careloop:" + field.dataset.keep;

export function keepTyping(root) {
  for (const field of root.querySelectorAll("[data-keep]")) {
    const text = sessionStorage.getItem(kept(field));
    if (text && !field.value) field.value = text;
  }
  for (const details of root.querySelectorAll("details[data-stay]")) {
    if (sessionStorage.getItem("careloop:open:" + details.dataset.stay)) details.open = true;
  }
}

async function send(form, submitter) {
  const wrong = form.querySelector(".wrong");
  if (wrong) wrong.textContent = "";
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  try {
    const body = new URLSearchParams(new FormData(form, submitter));
    const response = await ask(form.action, { method: "POST", body });
    if (response.ok || response.status === 409) {
      const html = await response.text();
      const fresh = response.headers.get("X-Fresh-Id");
      // It is answered, also where it is refused: what is sent from here next is meant anew.
      if (fresh && form.elements.key) form.elements.key.value = fresh;
      if (response.ok || !wrong || response.headers.has("X-Refresh")) toast(html);
      if (response.status === 409 && wrong) wrong.textContent = new DOMParser().parseFromString(html, "text/html").body.querySelector("span")?.textContent ?? "";
      if (response.ok) {
        for (const field of form.querySelectorAll("[data-keep]")) { sessionStorage.removeItem(kept(field)); field.value = ""; }
        if (fresh && form.elements.message_id) form.elements.message_id.value = fresh;
        const sheet = form.closest("details");
        if (sheet) { sheet.open = false; sheet.querySelector("summary")?.focus(); }
      }
      await refresh((response.headers.get("X-Refresh") ?? "").split(" "));
      if (response.headers.has("X-Look-Again")) await lookAgain(wrong?.textContent ?? "");
    } else {
      say(document.body.dataset.sayFailed);
    }
  } catch (problem) {
    if (!(problem instanceof SignedOut)) say(document.body.dataset.sayFailed);
  } finally {
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
}

export function sendForms() {
  document.addEventListener("input", (event) => {
    const field = event.target.closest?.("[data-keep]");
    if (field) sessionStorage.setItem(kept(field), field.value);
  });
  document.addEventListener("toggle", (event) => {
    const stay = event.target.dataset?.stay;
    if (stay) event.target.open ? sessionStorage.setItem("careloop:open:" + stay, "1") : sessionStorage.removeItem("careloop:open:" + stay);
  }, true);
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || form.action.endsWith("/sign-out")) return;
    event.preventDefault();
    send(form, event.submitter);
  });
  document.addEventListener("click", (event) => {
    const quick = event.target.closest("[data-quick] button");
    if (!quick) return;
    const field = quick.closest("form").elements.body;
    field.value = field.value ? field.value + "\n" + quick.textContent : quick.textContent;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) event.target.form.requestSubmit();
  });
  for (const chips of document.querySelectorAll("[data-quick]")) chips.hidden = false;
}
