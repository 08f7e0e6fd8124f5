// Ages tick. The server's clock counts, not this computer's: every answer brings it along.
const words = document.body.dataset;
let ahead = Date.parse(words.now) - Date.now();

export function setClock(response) {
  const now = Date.parse(response.headers.get("X-Clinic-Now") ?? "");
  if (!Number.isNaN(now)) ahead = now - Date.now();
}

export const clinicNow = () => Date.now() + ahead;

function length(seconds) {
  const whole = Math.max(Math.floor(seconds), 0);
  const units = [["Wk", 14 * 86400, 7 * 86400], ["D", 2 * 86400, 86400], ["H", 2 * 3600, 3600], ["Min", 60, 60]];
  for (const [unit, from, size] of units) {
    if (whole >= from) return words["unit" + unit].replace("#", Math.floor(whole / size));
  }
  return words.unitS.replace("#", whole);
}

function update() {
  const now = clinicNow();
  for (const time of document.querySelectorAll("time[data-age]")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    let text;
    if (time.dataset.age === "due") {
      text = seconds > 0 ? words.ageOver.replace("#", length(seconds)) : words.ageLeft.replace("#", length(-seconds));
      time.classList.toggle("overdue", seconds > 0);
    } else {
      text = words.ageAgo.replace("#", length(seconds));
    }
    if (time.textContent !== text) time.textContent = text;
  }
}

export function tick() {
  setInterval(update, 1000);
}
