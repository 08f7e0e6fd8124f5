// Reading the pain chart by pointer or arrow keys: one point at a time, said in words beside it.
const places = new WeakMap();

function show(chart, at) {
  const points = chart.querySelectorAll("li[data-x]");
  if (!points.length) return;
  const index = Math.min(Math.max(at, 0), points.length - 1);
  const point = points[index];
  const line = chart.querySelector(".cursor"), ring = chart.querySelector(".ring");
  for (const name of ["x1", "x2"]) line.setAttribute(name, point.dataset.x + "%");
  ring.setAttribute("cx", point.dataset.x + "%");
  ring.setAttribute("cy", point.dataset.y);
  chart.classList.add("reading");
  chart.closest(".plot").querySelector("[data-readout]").textContent = point.textContent;
  places.set(chart, index);
}

export function charts() {
  document.addEventListener("pointermove", (event) => {
    const chart = event.target.closest?.("[data-chart]");
    if (!chart) return;
    const box = chart.getBoundingClientRect();
    const x = (100 * (event.clientX - box.left)) / box.width;
    let best = 0, distance = Infinity;
    chart.querySelectorAll("li[data-x]").forEach((point, n) => {
      const away = Math.abs(point.dataset.x - x);
      if (away < distance) [best, distance] = [n, away];
    });
    show(chart, best);
  });
  document.addEventListener("keydown", (event) => {
    const chart = event.target.closest?.("[data-chart]");
    const last = chart ? chart.querySelectorAll("li[data-x]").length - 1 : 0;
    const at = chart ? places.get(chart) ?? last + 1 : 0;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, PageUp: at - 10, PageDown: at + 10 }[event.key];
    if (!chart || to === undefined) return;
    event.preventDefault();
    show(chart, to);
  });
}
