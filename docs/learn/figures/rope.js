// RoPE: pairs of features rotate with the position, and the dot product sees only the distance.

const rope = {
  /** Angle per position of each pair of d features: theta^(-2k / d). */
  frequencies: (d, theta) => Array.from({ length: d / 2 }, (_, k) => theta ** ((-2 * k) / d)),

  /** Rotate each pair (x[2k], x[2k+1]) by its angle at a position, like nnscratch.reference.rotate. */
  rotate(x, position, theta) {
    return rope.frequencies(x.length, theta).flatMap((frequency, k) => {
      const [cos, sin] = [Math.cos(position * frequency), Math.sin(position * frequency)];
      const [even, odd] = [x[2 * k], x[2 * k + 1]];
      return [even * cos - odd * sin, even * sin + odd * cos];
    });
  },

  dot: (x, y) => x.reduce((sum, value, index) => sum + value * y[index], 0),
};

figures.rope = rope;

figures.define("rope", (root) => {
  const { element, svg, slider, check, button } = figures;
  const LAST = 100; // the highest position
  const HIGH = 150; // pixels of the curve
  // The query and the key before rotation: vectors of length 1 in each of four pairs.
  let query = [1, 0, 1, 0, 1, 0, 1, 0];
  let key = [1, 0, 1, 0, 1, 0, 1, 0];
  let together = false;
  let distance = null;

  const swatch = (index) => element("span", { class: "swatch", style: `--colour: var(--figure-${index})` });
  const i = slider([swatch(1), "query's position i"], { min: 0, max: LAST, value: 12 }, () => move(i, j, 1));
  const j = slider([swatch(2), "key's position j"], { min: 0, max: LAST, value: 7 }, () => move(j, i, -1));
  const power = slider(
    "base θ",
    { min: 1, max: 6, step: 0.25, value: 4, format: (value) => Math.round(10 ** value).toLocaleString("en") },
    show,
  );
  const status = figures.spoken();
  const dials = element("div", { class: "dials" });
  const curve = element("div");

  root.append(
    element("div", { class: "sliders" }, i.node, j.node, power.node),
    element(
      "div",
      { class: "controls" },
      check("Move both: keep the distance", together, (checked) => {
        together = checked;
        distance = i.value - j.value;
      }),
      button("Other vectors", () => {
        [query, key] = [randomVector(), randomVector()];
        show();
      }),
      button("Equal vectors", () => {
        query = key = [1, 0, 1, 0, 1, 0, 1, 0];
        show();
      }),
    ),
    dials,
    status,
    curve,
  );
  show();
  new ResizeObserver(show).observe(root);

  function move(moved, other, sign) {
    if (together) {
      other.set(moved.value - sign * distance); // a slider stays within its range, and so must the one that was moved
      moved.set(other.value + sign * distance);
    }
    show();
  }

  function randomVector() {
    return Array.from({ length: 4 }, () => 2 * Math.PI * Math.random()).flatMap((angle) => [Math.cos(angle), Math.sin(angle)]);
  }

  function show() {
    const theta = Math.round(10 ** power.value);
    const [q, k] = [rope.rotate(query, i.value, theta), rope.rotate(key, j.value, theta)];
    const product = rope.dot(q, k);
    const steps = i.value - j.value;
    dials.replaceChildren(...rope.frequencies(8, theta).map((frequency, pair) => dial(pair, frequency, q, k)));
    status.textContent =
      `The dot product is ${signed(product)} at distance i − j = ${String(steps).replace("-", "−")}. ` +
      `It is the same at i = ${Math.max(steps, 0)}, j = ${Math.max(-steps, 0)}, and wherever the distance is the same.`;
    curve.replaceChildren(plot(theta, steps, product));
  }

  /** A circle with the query's and the key's arrow of one pair. */
  function dial(pair, frequency, q, k) {
    const at = 2 * pair;
    const between = (((i.value - j.value) * frequency * 180) / Math.PI) % 360;
    const share = rope.dot(q.slice(at, at + 2), k.slice(at, at + 2));
    const period = (2 * Math.PI) / frequency;
    return element(
      "div",
      { class: "dial" },
      svg(
        "svg",
        { viewBox: "-60 -60 120 120", role: "img", "aria-label": `Pair ${pair}: rotated query and key` },
        svg("circle", { r: 50, class: "axis" }),
        arrow(query.slice(at), "query before"),
        arrow(key.slice(at), "key before"),
        arrow(k.slice(at), "key"),
        arrow(q.slice(at), "query"),
      ),
      element("b", {}, `pair ${pair}`),
      element("span", {}, `${precise((frequency * 180) / Math.PI)}° per position`),
      element("span", {}, `turn in ${precise(period)} positions`),
      element("span", {}, `i − j rotates ${precise(between)}°`),
      element("span", {}, `adds ${signed(share)}`),
    );
  }

  function arrow([x, y], kind) {
    const [tipX, tipY] = [48 * x, -48 * y]; // up is positive
    const head = [0, 1, 2].map((corner) => {
      const turn = Math.atan2(tipY, tipX) + (corner * 2 * Math.PI) / 3;
      return `${tipX - 5 * x + 6 * Math.cos(turn)},${tipY + 5 * y + 6 * Math.sin(turn)}`;
    });
    return svg(
      "g",
      { class: kind },
      svg("line", { x1: 0, y1: 0, x2: tipX * 0.9, y2: tipY * 0.9 }),
      kind.includes("before") ? [] : svg("polygon", { points: head.join(" ") }),
    );
  }

  /** The dot product at every distance. */
  function plot(theta, steps, product) {
    const wide = curve.clientWidth;
    const x = (distance) => 30 + ((distance + LAST) / (2 * LAST)) * (wide - 50);
    const y = (value) => HIGH / 2 - (value / 4) * (HIGH / 2 - 14);
    const points = [];
    for (let distance = -LAST; distance <= LAST; distance += 0.25) {
      const value = rope.dot(rope.rotate(query, distance, theta), key); // the key stays at position 0
      points.push(`${x(distance).toFixed(1)},${y(value).toFixed(1)}`);
    }
    const label = `Dot product at distances from ${-LAST} to ${LAST}; at ${steps} it is ${signed(product)}`;
    const text = (content, attributes) => svg("text", attributes, content);
    return svg(
      "svg",
      { width: wide, height: HIGH + 30, role: "img", "aria-label": label, class: "curve" },
      ...[-4, -2, 0, 2, 4].flatMap((value) => [
        svg("line", { class: "grid", x1: 30, x2: wide - 20, y1: y(value), y2: y(value) }),
        text(String(value).replace("-", "−"), { x: 24, y: y(value) + 4, "text-anchor": "end" }),
      ]),
      ...[-100, -50, 0, 50, 100].map((value) =>
        text(String(value).replace("-", "−"), { x: x(value), y: HIGH + 10, "text-anchor": "middle" }),
      ),
      text("distance i − j", { x: x(0), y: HIGH + 26, "text-anchor": "middle" }),
      svg("polyline", { points: points.join(" ") }),
      svg("line", { class: "mark", x1: x(steps), x2: x(steps), y1: y(4), y2: y(-4) }),
      svg("circle", { class: "mark", cx: x(steps), cy: y(product), r: 6 }),
    );
  }

  function precise(value) {
    const size = Math.abs(value);
    const text = size >= 100 ? Math.round(size).toLocaleString("en") : Number(size.toPrecision(3)).toString();
    return (value < 0 ? "−" : "") + text;
  }

  function signed(value) {
    return value.toFixed(3).replace("-", "−");
  }
});
