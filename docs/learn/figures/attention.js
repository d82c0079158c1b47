// Causal attention over a few words, with made-up queries and keys.

const attention = {
  /** `count` standard normal numbers that depend only on the seed (Box-Muller; a hash of the seed and the index). */
  normal(seed, count) {
    const uniform = (index) => {
      let hash = 2166136261;
      for (const character of `${seed} ${index}`) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
      hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
      hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
      return (((hash ^ (hash >>> 16)) >>> 0) + 0.5) / 2 ** 32;
    };
    return Array.from(
      { length: count },
      (_, index) => Math.sqrt(-2 * Math.log(uniform(2 * index))) * Math.cos(2 * Math.PI * uniform(2 * index + 1)),
    );
  },

  /** The dot product of every query with every key, divided by sqrt(d) if `scaled`. */
  scores(queries, keys, scaled) {
    const scale = scaled ? Math.sqrt(queries[0].length) : 1;
    return queries.map((q) => keys.map((k) => q.reduce((sum, value, index) => sum + value * k[index], 0) / scale));
  },

  /** exp(x) / sum(exp(x)); the maximum is subtracted, so that no exponential overflows. */
  softmax(row) {
    const most = Math.max(...row);
    const exponentials = row.map((score) => Math.exp(score - most));
    const sum = exponentials.reduce((total, value) => total + value, 0);
    return exponentials.map((value) => value / sum);
  },

  /** The weights of every query; with `causal`, keys after the query get none. */
  weights(scores, causal) {
    return scores.map((row, query) =>
      attention.softmax(row.map((score, key) => (causal && key > query ? -Infinity : score))),
    );
  },
};

figures.attention = attention;

figures.define("attention", (root) => {
  const { element, choice, check } = figures;
  const MOST = 8; // tokens
  let scaled = true;
  let causal = true;
  let selected = 3;

  const text = element("input", { type: "text", maxlength: 60, spellcheck: "false", oninput: show });
  text.value = "the cat sat on the mat";
  const sizes = { 4: "4", 16: "16", 64: "64", 256: "256" };
  const size = choice("width d of a head", sizes, "16", show);
  const matrix = element("div", { class: "matrix" });
  const bars = element("div", { class: "bars" });
  const status = figures.spoken();

  root.append(
    element("label", { class: "field wide" }, element("span", {}, `Tokens, at most ${MOST} (you can change them)`), text),
    element(
      "div",
      { class: "controls" },
      size.node,
      check("divide by √d", scaled, (checked) => show((scaled = checked))),
      check("causal mask", causal, (checked) => show((causal = checked))),
    ),
    element("div", { class: "columns two" }, matrix, element("section", {}, bars, status)),
    element(
      "p",
      { class: "soft" },
      "The queries and keys are made up: normal numbers that depend on the token alone. Nothing tells equal tokens at " +
        "different positions apart.",
    ),
  );
  show();

  function show() {
    const tokens = text.value.split(/\s+/).filter(Boolean).slice(0, MOST);
    if (!tokens.length) {
      matrix.replaceChildren(element("p", { class: "soft" }, "Type a few words."));
      bars.replaceChildren();
      status.textContent = "";
      return;
    }
    const d = Number(size.select.value);
    const [queries, keys] = ["query", "key"].map((kind) => tokens.map((token) => attention.normal(`${kind} ${token}`, d)));
    const scores = attention.scores(queries, keys, scaled);
    const weights = attention.weights(scores, causal);
    const rows = tokens.map((token, query) =>
      element(
        "tr",
        { onpointerenter: () => select(query), onfocus: () => select(query) },
        element("th", { scope: "row" }, token),
        ...weights[query].map((weight, key) => cell(weight, causal && key > query)),
      ),
    );
    const heads = tokens.map((token) => element("th", { scope: "col" }, token));
    matrix.replaceChildren(
      element(
        "table",
        { class: "weights" },
        element("caption", {}, "Weights in percent: a row is a query, a column is a key"),
        element("thead", {}, element("tr", {}, element("td"), ...heads)),
        element("tbody", { onkeydown: move }, ...rows),
      ),
    );
    select(Math.min(selected, tokens.length - 1));

    function select(query) {
      selected = query;
      rows.forEach((row, index) => {
        row.classList.toggle("selected", index === query);
        row.setAttribute("tabindex", index === query ? 0 : -1);
      });
      showRow(tokens, query, scores[query], weights[query]);
    }

    function move(event) {
      const last = tokens.length - 1;
      const target = { ArrowDown: selected + 1, ArrowUp: selected - 1, Home: 0, End: last }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      rows[Math.max(0, Math.min(last, target))].focus();
    }
  }

  function cell(weight, masked) {
    const kind = masked ? "masked" : weight > 0.5 ? "strong" : "";
    return element("td", { class: kind, style: `--share: ${weight}` }, masked ? "–" : percent(weight));
  }

  /** The scores of one query and their softmax. */
  function showRow(tokens, query, scores, weights) {
    const rows = tokens.map((token, key) => {
      const masked = causal && key > query;
      return element(
        "tr",
        { class: masked ? "masked" : "" },
        element("th", { scope: "row" }, token),
        element("td", {}, masked ? "−∞" : scores[key].toFixed(2).replace("-", "−")),
        element("td", { class: "long" }, masked ? "" : element("span", { class: "bar", style: `--share: ${weights[key]}` })),
        element("td", {}, `${percent(weights[key])} %`),
      );
    });
    const heads = ["key", "score", "", "weight"].map((name) => element("th", { scope: "col" }, name));
    bars.replaceChildren(
      element(
        "table",
        { class: "row" },
        element("caption", {}, `Query ${query + 1}, “${tokens[query]}”`),
        element("thead", {}, element("tr", {}, ...heads)),
        element("tbody", {}, ...rows),
      ),
    );
    const most = weights.indexOf(Math.max(...weights));
    status.textContent =
      `Query ${query + 1}, “${tokens[query]}”, takes ${percent(weights[most])} % of its mean from the value of ` +
      `key ${most + 1}, “${tokens[most]}”.`;
  }

  function percent(weight) {
    return (100 * weight).toFixed(weight < 0.0995 ? 1 : 0);
  }
});
