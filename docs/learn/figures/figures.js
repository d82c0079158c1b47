// What the interactive figures share: this script loads NAME.js for every <div class="figure" data-figure="NAME"> of a
// page, and has the parts of which figures are made. Plain scripts, so that they also work in pages opened from a disk.

const figures = (() => {
  const folder = new URL(".", document.currentScript.src);
  const builders = {};
  const loading = {};

  /** Load another script of this folder, once; the promise ends when it has run. */
  function load(file) {
    loading[file] ??= new Promise((resolve, reject) => {
      const script = element("script", { src: new URL(file, folder).href });
      script.onload = () => resolve();
      script.onerror = () => reject(new Error(`${script.src} could not be loaded`));
      document.head.append(script);
    });
    return loading[file];
  }

  /** Called by each figure's script: `build(root)` fills the figure's element, and may be async. */
  function define(name, build) {
    builders[name] = build;
  }

  async function buildAll() {
    for (const root of document.querySelectorAll(".figure[data-figure]")) {
      const { figure } = root.dataset;
      try {
        await load(`${figure}.js`);
        root.replaceChildren();
        await builders[figure](root);
        root.dataset.ready = "";
      } catch (error) {
        root.replaceChildren(element("p", { class: "error" }, `This figure failed: ${error.message}`));
        console.error(error);
      }
    }
  }

  const isEvent = (name) => name.startsWith("on");

  function filled(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (isEvent(name)) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.flat());
    return node;
  }

  /** Make an HTML element. Attributes such as `onclick` are listeners; those that are false, null or undefined are left out. */
  function element(name, attributes = {}, ...children) {
    return filled(document.createElement(name), attributes, children);
  }

  /** Make an SVG element, in the same way. */
  function svg(name, attributes = {}, ...children) {
    return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  }

  /** Make a slider with its label; `format` writes the value beside it. It has `value` and `set(value)`. */
  function slider(label, { min, max, step = 1, value, format = String }, onInput) {
    const output = element("output");
    const input = element("input", { type: "range", min, max, step, value, oninput: () => onInput(show()) });
    function show() {
      output.textContent = format(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
      return Number(input.value);
    }
    show();
    return {
      node: element("label", { class: "slider" }, element("span", {}, ...[label].flat()), input, output),
      input,
      get value() {
        return Number(input.value);
      },
      set(value) {
        input.value = value;
        show();
      },
    };
  }

  /** Make a labelled choice between the keys of `options`, whose values are shown. */
  function choice(label, options, value, onChange) {
    const select = element("select", { onchange: () => onChange(select.value) });
    select.append(...Object.entries(options).map(([key, text]) => element("option", { value: key }, text)));
    select.value = value;
    return { node: element("label", { class: "field" }, element("span", {}, label), select), select };
  }

  /** Make a checkbox with its label. */
  function check(label, checked, onChange) {
    const input = element("input", { type: "checkbox", checked, onchange: () => onChange(input.checked) });
    return element("label", { class: "check" }, input, element("span", {}, label));
  }

  function button(label, onclick) {
    return element("button", { type: "button", onclick }, label);
  }

  /** Make an element whose changes a screen reader speaks. */
  function spoken() {
    return element("p", { class: "spoken", "aria-live": "polite" });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", buildAll);
  else queueMicrotask(buildAll);

  return { load, define, element, svg, slider, choice, check, button, spoken };
})();
