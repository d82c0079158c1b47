// Parameters, FLOPs and training memory of a model, from its sizes.

/** The counts of nnscratch.accounting, for pre-norm blocks with SwiGLU, without biases, with a separate output layer. */
const modelSize = {
  parameters({ vocabulary, width, layers, inner }) {
    return {
      embeddings: vocabulary * width,
      attention: layers * 4 * width * width, // the projections of queries, keys and values, and of the output
      "feed-forward": layers * 3 * width * inner,
      norms: (2 * layers + 1) * width,
      "output layer": vocabulary * width,
    };
  },

  /** FLOPs of the forward pass per token, two for each product and sum; the backward pass takes twice as many. */
  flops({ vocabulary, context, width, layers, inner }) {
    return {
      "q, k, v": layers * 6 * width * width,
      attention: layers * 4 * context * width, // queries with keys, weights with values; masked ones count, too
      "output projection": layers * 2 * width * width,
      "feed-forward": layers * 6 * width * inner,
      "output layer": 2 * width * vocabulary,
    };
  },

  /** Numbers that the forward pass keeps for the backward pass, for one sequence. */
  activations({ context, width, layers, heads, inner }) {
    const norm = width + 1; // its input, and one number per row
    const attention = 6 * width + heads; // input, q, k, v, result, its copy; of the softmax one number per row and head
    const feedForward = width + 3 * inner; // input, both inputs of the gate, the gate's result
    const loss = width; // the gradient of the features: logits are computed in chunks, and not kept
    return context * (layers * (2 * norm + attention + feedForward) + norm + loss);
  },

  /** Bytes of a training step. */
  memory(sizes, batch, bytes, optimizer) {
    const parameters = modelSize.total(modelSize.parameters(sizes));
    return {
      weights: parameters * bytes,
      gradients: parameters * bytes,
      "optimizer state": { adamw: 2, muon: 1, sgd: 0 }[optimizer] * parameters * bytes,
      activations: batch * modelSize.activations(sizes) * bytes,
    };
  },

  total: (parts) => Object.values(parts).reduce((sum, value) => sum + value, 0),
};

figures.modelSize = modelSize;

figures.define("model-size", (root) => {
  const { element, choice } = figures;
  const gpt2 = (layers, width, heads) => ({
    vocabulary: 50257, context: 1024, width, layers, heads, inner: 4 * width, batch: 8,
  });
  const PRESETS = {
    "TinyStories (assignment)": {
      vocabulary: 10000, context: 256, width: 512, layers: 4, heads: 16, inner: 1344, batch: 32,
    },
    "GPT-2 small": gpt2(12, 768, 12),
    "GPT-2 medium": gpt2(24, 1024, 16),
    "GPT-2 large": gpt2(36, 1280, 20),
    "GPT-2 XL": gpt2(48, 1600, 25),
  };
  const FIELDS = {
    layers: "layers",
    width: "width (d_model)",
    heads: "heads",
    inner: "inner width (d_ff)",
    vocabulary: "vocabulary",
    context: "context (tokens)",
    batch: "batch (sequences)",
  };
  const OWN = "your own";
  // Parts with the same name have the same colour.
  const COLOURS = {
    embeddings: 1, attention: 2, "feed-forward": 3, norms: 4, "output layer": 5, "q, k, v": 6, "output projection": 7,
    weights: 1, gradients: 2, "optimizer state": 3, activations: 4,
  };

  const inputs = {};
  const fields = Object.entries(FIELDS).map(([name, label]) => {
    const onInput = () => ((preset.select.value = OWN), show());
    inputs[name] = element("input", { type: "number", min: 1, step: 1, required: true, oninput: onInput });
    return element("label", { class: "field" }, element("span", {}, label), inputs[name]);
  });
  const names = [...Object.keys(PRESETS), OWN];
  const preset = choice("model", Object.fromEntries(names.map((name) => [name, name])), names[0], fill);
  const precision = choice("precision", { 4: "float32", 2: "bfloat16" }, "4", show);
  const optimizer = choice("optimizer", { adamw: "AdamW", muon: "Muon", sgd: "SGD" }, "adamw", show);
  const error = element("p", { class: "error", role: "alert" });
  const results = element("div", { class: "results" });
  const status = figures.spoken();

  root.append(
    element("div", { class: "fields" }, preset.node, precision.node, optimizer.node, ...fields),
    error,
    status,
    results,
  );
  fill(names[0]);

  function fill(name) {
    for (const [field, value] of Object.entries(PRESETS[name] ?? {})) inputs[field].value = value;
    show();
  }

  /** The reason why these sizes make no model, or "". */
  function mistake({ width, heads }) {
    for (const [name, label] of Object.entries(FIELDS)) {
      if (!inputs[name].value || !inputs[name].checkValidity()) return `${label}: expected a whole number above 0.`;
    }
    if (width % heads) return `${heads} heads do not divide a width of ${width}: choose a divisor.`;
    if ((width / heads) % 2) return `Heads of ${width / heads} cannot be rotated in pairs: choose an even width of heads.`;
    return "";
  }

  function show() {
    const sizes = Object.fromEntries(Object.keys(FIELDS).map((name) => [name, Number(inputs[name].value)]));
    error.textContent = mistake(sizes);
    results.classList.toggle("stale", Boolean(error.textContent));
    if (error.textContent) return;
    const parameters = modelSize.parameters(sizes);
    const flops = modelSize.flops(sizes);
    const memory = modelSize.memory(sizes, sizes.batch, Number(precision.select.value), optimizer.select.value);
    const all = modelSize.total(parameters);
    const perToken = 3 * modelSize.total(flops);
    results.replaceChildren(
      stack("Parameters", parameters, (value) => short(value)),
      stack("FLOPs per token, forward", flops, (value) => short(value)),
      stack("Memory of a training step", memory, (value) => `${short(value)}B`),
    );
    status.textContent =
      `${short(all)} parameters. Training takes ${short(perToken)} FLOPs per token (forward and backward); the rule of ` +
      `6 per parameter gives ${short(6 * all)}. A step of ${sizes.batch} × ${sizes.context} tokens takes ` +
      `${short(perToken * sizes.batch * sizes.context)} FLOPs and ${short(modelSize.total(memory))}B of memory.`;
  }

  /** A bar of parts in proportion, with a list of their values. */
  function stack(title, parts, format) {
    const sum = modelSize.total(parts);
    const entries = Object.entries(parts);
    const colour = (name) => `--colour: var(--figure-${COLOURS[name]})`;
    return element(
      "section",
      {},
      element("h4", {}, `${title}: ${format(sum)}`),
      element(
        "div",
        { class: "stack", "aria-hidden": "true" },
        ...entries.map(([name, value]) => element("span", { style: `${colour(name)}; flex-grow: ${value / sum}` })),
      ),
      element(
        "ul",
        { class: "plain legend" },
        ...entries.map(([name, value]) =>
          element(
            "li",
            {},
            element("span", { class: "swatch", style: colour(name) }),
            element("span", {}, name),
            element("span", { class: "times", title: value.toLocaleString("en") }, format(value)),
            element("span", { class: "soft times" }, `${((100 * value) / sum).toFixed(1)} %`),
          ),
        ),
      ),
    );
  }

  /** Three digits and a unit: 1.32 M. Memory is in units of 10^9 bytes, as in the accounting. */
  function short(value) {
    const units = [" ", " k", " M", " G", " T", " P", " E"];
    let unit = 0;
    for (; value >= 999.5 && unit < units.length - 1; unit += 1) value /= 1000;
    return `${unit ? value.toPrecision(3) : value}${units[unit]}`.trimEnd();
  }
});
