// Draws every plot in the colours that the style sheet has at the moment, and again when they change: the scheme is
// switched, the page is printed, the window becomes narrow. Sorts a table by the heading that is pressed.
(() => {
  const narrow = matchMedia("(max-width: 40rem)");
  const folds = [...document.querySelectorAll("details")];
  const plots = [...document.querySelectorAll("figure.plot")].map((figure) => ({
    canvas: figure.querySelector(".canvas"),
    asked: figure.querySelector("input"),
    fold: figure.closest("details"),
    figure: JSON.parse(figure.querySelector("script").textContent),
    drawn: false,
  }));

  const resolve = (value, style) => {
    if (typeof value === "string") {
      const variable = /^var\((--[\w-]+)\)$/.exec(value);
      return variable ? style.getPropertyValue(variable[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
    return value;
  };

  const draw = (plot) => {
    // What is folded away has no width to be drawn in.
    if (plot.fold && !plot.fold.open) return;
    const { data, layout } = resolve(plot.figure, getComputedStyle(document.documentElement));
    const predictions = plot.asked !== null && plot.asked.checked;
    const view = layout.meta?.views?.[predictions ? "all" : "measured"] ?? {};
    for (const [axis, settings] of Object.entries(view)) Object.assign(layout[axis], settings);
    for (const trace of data) if (trace.meta === "prediction") trace.visible = predictions ? true : "legendonly";
    // A zoom and hidden lines outlast a change of colours, not one of axes.
    layout.uirevision = String(predictions);
    // A finger that scrolls the page must not zoom the plot.
    layout.dragmode = narrow.matches ? false : "zoom";
    if (narrow.matches) {
      layout.font.size = 11;
      // The legend takes a line an entry here, which must not come off the plot.
      if (layout.showlegend !== false) layout.height += 60;
    }
    (plot.drawn ? Plotly.react : Plotly.newPlot)(plot.canvas, data, layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: narrow.matches ? false : "hover",
      modeBarButtons: [["zoom2d", "pan2d", "zoomOut2d", "resetScale2d", "toImage"]],
    });
    plot.drawn = true;
  };
  const drawAll = () => plots.forEach(draw);

  drawAll();
  for (const query of [matchMedia("(prefers-color-scheme: dark)"), matchMedia("print"), narrow])
    query.addEventListener("change", drawAll);
  for (const plot of plots) plot.asked?.addEventListener("change", () => draw(plot));
  for (const fold of folds)
    fold.addEventListener("toggle", () => plots.filter((plot) => plot.fold === fold).forEach(draw));

  // Paper has no folds.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = folds.filter((fold) => !fold.open);
    for (const fold of closed) fold.open = true;
    drawAll();
  });
  addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
  });

  // Numbers by size, other texts as a reader would; what is unknown (an empty key) comes last either way.
  const order = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      button.addEventListener("click", () => {
        const descending = heading.getAttribute("aria-sort") === "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        table.tBodies[0].append(...rows.sort((a, b) => order(key(a), key(b), descending ? -1 : 1)));
      });
    });
  }
})();
