// Draws every plot in the colours that the style sheet has at the moment, and again when they change: the scheme is
// switched, the page is printed, the window becomes narrow.
(() => {
  const figures = [...document.querySelectorAll("figure.plot")].map((figure) => ({
    canvas: figure.querySelector(".canvas"),
    plot: JSON.parse(figure.querySelector("script").textContent),
  }));
  const narrow = matchMedia("(max-width: 40rem)");

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

  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const { canvas, plot } of figures) {
      const { data, layout } = resolve(plot, style);
      // A finger that scrolls the page must not zoom the plot.
      layout.dragmode = narrow.matches ? false : "zoom";
      if (narrow.matches) {
        layout.font.size = 11;
        // The legend takes a line an entry here, which must not come off the plot.
        if (layout.showlegend !== false) layout.height += 60;
      }
      Plotly.react(canvas, data, layout, {
        responsive: true,
        displaylogo: false,
        displayModeBar: narrow.matches ? false : "hover",
        modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
      });
    }
  };

  draw();
  for (const query of [matchMedia("(prefers-color-scheme: dark)"), matchMedia("print"), narrow])
    query.addEventListener("change", draw);
})();
