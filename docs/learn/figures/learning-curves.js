// Learning curves of recorded runs: the mean over seeds, with a band from the lowest to the highest.

/** Calculations on curves: {steps, seconds, bits} are lists of equal length, and null marks a loss that was not finite. */
const curves = {
  /** The value of a curve at x, on the line between two evaluations; null outside of them. */
  at(xs, ys, x) {
    const after = xs.findIndex((value) => value >= x);
    if (after < 0) return null;
    if (xs[after] === x) return ys[after];
    if (after === 0 || ys[after] === null || ys[after - 1] === null) return null;
    const share = (x - xs[after - 1]) / (xs[after] - xs[after - 1]);
    return ys[after - 1] + share * (ys[after] - ys[after - 1]);
  },

  /** Mean, lowest and highest over the runs that did not diverge, at each evaluation. */
  summary(runs, axis) {
    const stable = runs.filter((run) => !run.diverged);
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const over = (combine, list) => (stable.length ? stable[0][list].map((_, k) => combine(stable.map((run) => run[list][k]))) : []);
    return {
      x: over(mean, axis),
      mean: over(mean, "bits"),
      low: over((values) => Math.min(...values), "bits"),
      high: over((values) => Math.max(...values), "bits"),
    };
  },
};

figures.curves = curves;

figures.define("learning-curves", async (root) => {
  const { element, svg, choice, check, slider } = figures;
  await figures.load("learning-curves-data.js"); // written by learning_curves.py
  const { source, variants } = figures.learningCurves;
  const HIGH = 340;
  const LINE = 15; // height of a label at the end of a curve
  const COLOURS = 8;
  const shown = new Set(variants.slice(0, 5));
  let axis = "steps";
  let [logX, logY] = [false, false];
  let scale = null; // {x, y, unX, top, right}: from values to pixels, and x back

  const chart = element("div", { class: "chart", onpointermove: point });
  const table = element("div");
  const status = figures.spoken();
  const axes = { steps: "optimizer steps", seconds: "seconds of training" };
  const cursor = slider("read off at", { min: 0, max: 1, step: 0.005, value: 1, format: position }, showCursor);
  root.append(
    element("div", { class: "controls", role: "group", "aria-label": "Variants" }, ...variants.map(toggle)),
    element(
      "div",
      { class: "controls" },
      choice("against", axes, axis, (name) => show((axis = name))).node,
      check("logarithmic x", logX, (checked) => show((logX = checked))),
      check("logarithmic y", logY, (checked) => show((logY = checked))),
    ),
    chart,
    cursor.node,
    status,
    table,
    element("p", { class: "soft" }, source),
  );
  show();
  new ResizeObserver(show).observe(chart);

  function toggle(variant, index) {
    const box = check(variant.name, shown.has(variant), (checked) => {
      if (checked) shown.add(variant);
      else shown.delete(variant);
      show();
    });
    box.classList.add("toggle");
    box.title = variant.what;
    box.style.cssText = `--colour: ${colour(index)}`;
    return box;
  }

  /** The first variant is what the others are compared with: it has the colour of text. */
  function colour(index) {
    return index ? `var(--figure-${((index - 1) % COLOURS) + 1})` : "var(--figure-ink)";
  }

  function show() {
    const wide = chart.clientWidth || 640;
    const lines = variants
      .map((variant, index) => ({ ...variant, index, ...curves.summary(variant.runs, axis) }))
      .filter((line) => shown.has(variants[line.index]));
    scale = scales(lines, wide);
    const clip = svg("clipPath", { id: "curves-inside" }, svg("rect", { x: 46, y: 0, width: scale.right - 46, height: HIGH - 44 }));
    const names = lines.map(({ name }) => name).join(", ");
    const label = `Validation loss in bits per byte against ${axes[axis]}: ${names}. The table below has the values.`;
    chart.replaceChildren(
      svg(
        "svg",
        { width: wide, height: HIGH, role: "img", "aria-label": label },
        clip,
        ...grid(wide),
        svg("g", { "clip-path": "url(#curves-inside)" }, ...lines.flatMap(drawing)),
        ...(wide > 560 ? endLabels(lines) : []),
        svg("line", { class: "mark", y1: 8, y2: HIGH - 44 }),
      ),
    );
    showCursor();
  }

  function scales(lines, wide) {
    const all = lines.flatMap(({ runs }) => runs);
    const xs = all.flatMap((run) => run[axis]).filter((x) => !logX || x > 0);
    const [left, right] = [46, wide - (wide > 560 ? 140 : 12)];
    const [least, most] = xs.length ? [logX ? Math.min(...xs) : 0, Math.max(...xs)] : [1, 2];
    // From the first evaluation in training on, because the loss before it is the same for all.
    const ys = lines.flatMap(({ low, high }) => [...low.slice(1), ...high.slice(1)]);
    const bottom = (ys.length ? Math.min(...ys) : 1) * 0.98;
    const top = Math.min(ys.length ? Math.max(...ys) : 2, 2 * bottom) * 1.02;
    const [fx, unX] = logX ? [Math.log, Math.exp] : [Number, Number];
    const fy = logY ? Math.log : Number;
    const share = (x) => (fx(x) - fx(least)) / (fx(most) - fx(least));
    return {
      bounds: { least, most, bottom, top },
      right,
      x: (x) => left + share(x) * (right - left),
      y: (y) => 8 + ((fy(top) - fy(y)) / (fy(top) - fy(bottom))) * (HIGH - 52),
      shareAt: (pixel) => Math.max(0, Math.min(1, (pixel - left) / (right - left))),
      xAt: (part) => unX(fx(least) + part * (fx(most) - fx(least))),
    };
  }

  /** Round numbers between two bounds, about `count` of them. */
  function ticks(low, high, count, logarithmic) {
    if (logarithmic && high / low > 4) {
      const powers = [1, 2, 5].flatMap((digit) => [0, 1, 2, 3, 4, 5, 6].map((power) => digit * 10 ** power));
      return powers.filter((value) => value >= low && value <= high).sort((a, b) => a - b);
    }
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough);
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(6)));
  }

  function grid(wide) {
    const { least, most, bottom, top } = scale.bounds;
    const text = (content, attributes) => svg("text", attributes, content);
    const horizontal = ticks(bottom, top, 8, logY).flatMap((value) => [
      svg("line", { class: "grid", x1: 46, x2: scale.right, y1: scale.y(value), y2: scale.y(value) }),
      text(value, { x: 40, y: scale.y(value) + 4, "text-anchor": "end" }),
    ]);
    const vertical = ticks(least, most, wide > 560 ? 8 : 4, logX).map((value) =>
      text(value, { x: scale.x(value), y: HIGH - 28, "text-anchor": "middle" }),
    );
    const titles = [
      text(axes[axis], { x: (46 + scale.right) / 2, y: HIGH - 8, "text-anchor": "middle" }),
      text("bits per byte", { transform: `translate(11 ${HIGH / 2 - 20}) rotate(-90)`, "text-anchor": "middle" }),
    ];
    return [...horizontal, ...vertical, ...titles];
  }

  function drawing({ index, runs, x, mean, low, high }) {
    const path = (xs, ys) =>
      xs.map((value, k) => [value, ys[k]])
        .filter(([value, y]) => y !== null && (!logX || value > 0))
        .map(([value, y]) => `${scale.x(value).toFixed(1)},${Math.max(-1e4, scale.y(y)).toFixed(1)}`);
    const style = `--colour: ${colour(index)}`;
    const band = [...path(x, low), ...path(x, high).reverse()].join(" ");
    const lost = runs.filter((run) => run.diverged);
    return [
      svg("polygon", { class: "band", style, points: band }),
      ...lost.map((run) => svg("polyline", { class: "diverged", style, points: path(run[axis], run.bits).join(" ") })),
      svg("polyline", { class: index ? "line" : "line first", style, points: path(x, mean).join(" ") }),
    ];
  }

  /** Names beside the ends of the curves, pushed apart where they would overlap. */
  function endLabels(lines) {
    const ends = lines.filter(({ mean }) => mean.length).map((line) => ({ ...line, y: scale.y(line.mean.at(-1)) }));
    ends.sort((a, b) => a.y - b.y);
    let lowest = 0;
    for (const end of ends) lowest = end.y = Math.max(end.y, lowest + LINE, 12);
    let highest = HIGH - 44;
    for (const end of ends.toReversed()) highest = end.y = Math.min(end.y, highest - LINE);
    return ends.map(({ name, index, y }) =>
      svg("text", { class: "end", style: `--colour: ${colour(index)}`, x: scale.right + 8, y: y + 4 }, name),
    );
  }

  function position(share) {
    const x = scale ? scale.xAt(share) : 0;
    return `${Math.round(x).toLocaleString("en")} ${axis}`;
  }

  function point(event) {
    if (event.pointerType === "touch") return; // which scrolls the page; the slider is below
    cursor.set(scale.shareAt(event.clientX - chart.getBoundingClientRect().left));
    showCursor();
  }

  function showCursor() {
    cursor.set(cursor.value);
    const x = scale.xAt(cursor.value);
    const mark = chart.querySelector(".mark");
    mark.setAttribute("x1", scale.x(x));
    mark.setAttribute("x2", scale.x(x));
    const rows = [...shown].map((variant) => {
      const stable = variant.runs.filter((run) => !run.diverged);
      const values = stable.map((run) => curves.at(run[axis], run.bits, x)).filter((value) => value !== null);
      const mean = values.length === stable.length && values.length ? values.reduce((a, b) => a + b) / values.length : null;
      return { variant, values, mean, lost: variant.runs.length - stable.length };
    });
    rows.sort((a, b) => (a.mean ?? Infinity) - (b.mean ?? Infinity));
    const known = rows.filter((one) => one.mean !== null).map((one) => `${one.variant.name} ${one.mean.toFixed(3)}`);
    status.textContent = `Bits per byte at ${position(cursor.value)}, the lowest first: ${known.join(", ") || "no curve"}.`;
    const heads = ["variant", "mean", "range", "seeds"].map((name) => element("th", { scope: "col" }, name));
    table.replaceChildren(
      element(
        "table",
        { class: "row" },
        element("caption", {}, `Bits per byte at ${position(cursor.value)}, over the seeds that did not diverge`),
        element("thead", {}, element("tr", {}, ...heads)),
        element("tbody", {}, ...rows.map(row)),
      ),
    );
  }

  function row({ variant, values, mean, lost }) {
    const digits = (value) => value.toFixed(3);
    const count = lost ? `${variant.runs.length - lost} of ${variant.runs.length}` : variant.runs.length;
    return element(
      "tr",
      { style: `--colour: ${colour(variants.indexOf(variant))}` },
      element("th", { scope: "row", class: "name" }, element("span", { class: "swatch" }), variant.name),
      element("td", {}, mean === null ? "–" : digits(mean)),
      element("td", {}, mean === null ? "–" : `${digits(Math.min(...values))}–${digits(Math.max(...values))}`),
      element("td", {}, count),
    );
  }
});
