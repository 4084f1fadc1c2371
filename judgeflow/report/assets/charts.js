// Draws figures with plotly.js in the colours of the page, and again when those change (dark, light, paper).
"use strict";
window.judgeflow = (() => {
  const VARIABLE = /^(--[a-z0-9-]+)(?:\/([0-9.]+))?$/;
  const drawn = new Map(); // element -> figure; only draw() adds to it

  function colour(text, style) {
    const [, name, alpha] = VARIABLE.exec(text);
    const value = style.getPropertyValue(name).trim();
    if (alpha === undefined) return value;
    const parts = [1, 3, 5].map((start) => parseInt(value.slice(start, start + 2), 16));
    return `rgba(${parts.join(",")},${alpha})`;
  }

  function coloured(value, style) {
    if (typeof value === "string") return VARIABLE.test(value) ? colour(value, style) : value;
    if (Array.isArray(value)) return typeof value[0] === "object" ? value.map((each) => coloured(each, style)) : value;
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, coloured(each, style)]));
  }

  function paint(element, figure) {
    const style = getComputedStyle(document.documentElement);
    const layout = coloured(figure.layout, style);
    layout.font.family = getComputedStyle(document.body).fontFamily;
    return window.Plotly.react(element, coloured(figure.data, style), layout, { displayModeBar: false, responsive: true });
  }

  function repaint() {
    for (const [element, figure] of drawn) {
      if (element.isConnected) paint(element, figure);
      else drawn.delete(element);
    }
  }

  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", repaint);

  return {
    /** Keep the room that figures will take, before plotly is there. `figures` is {chart id: {data, layout}}. */
    reserve(figures) {
      for (const element of document.querySelectorAll("[data-chart]")) {
        const figure = figures[element.dataset.chart];
        if (figure) element.style.minHeight = `${figure.layout.height}px`;
      }
    },
    /** Draw every figure into the element whose data-chart is its id; drawing again changes what is there. */
    draw(figures) {
      for (const element of document.querySelectorAll("[data-chart]")) {
        const figure = figures[element.dataset.chart];
        if (!figure) continue;
        drawn.set(element, figure);
        paint(element, figure);
      }
    },
  };
})();
