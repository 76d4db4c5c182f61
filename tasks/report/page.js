"use strict";
// Draws the charts in the colours of the current theme and again when theme, width or medium changes.
(() => {
  const read = (id) => document.getElementById(id).textContent;
  const charts = JSON.parse(read("chart-data"));
  const dark = JSON.parse(read("palette")); // light colour -> dark colour
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let isPrinting = false;

  const isDark = () => !isPrinting && (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);

  function draw() {
    const recolour = isDark() ? (_, value) => (typeof value === "string" ? toDark(value) : value) : undefined;
    for (const [id, chart] of Object.entries(charts)) {
      const element = document.getElementById(id);
      const width = element.clientWidth;
      const figure = chart.narrow && width < chart.narrowBelow ? chart.narrow : chart.wide;
      const { data, layout } = JSON.parse(JSON.stringify(figure), recolour);
      Plotly.newPlot(element, data, { ...layout, width }, { displayModeBar: false, showTips: false });
    }
    root.dataset.drawn = isDark() ? "dark" : "light";
  }

  const toDark = (text) => text.replace(/#[0-9a-f]{6}/g, (colour) => dark[colour] ?? colour);

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    draw();
  });
  prefersDark.addEventListener("change", draw);

  let drawnWidth = root.clientWidth;
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (root.clientWidth === drawnWidth) return;
      drawnWidth = root.clientWidth;
      draw();
    }, 120);
  });
  for (const [event, starts] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      isPrinting = starts;
      root.classList.toggle("printing", starts);
      draw();
    });
  }
  draw();
})();
