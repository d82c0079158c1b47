// Details of a token: its probabilities and its alternatives.

/** A probability in percent, with at least two digits. */
export function percent(probability) {
  const value = 100 * probability;
  if (value === 0) return "0 %";
  if (value < 0.001) return "< 0.001 %";
  return `${value >= 9.95 ? value.toFixed(1) : value.toPrecision(2)} %`;
}

/** A token's text with visible blanks. */
export function visible(label) {
  return label.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "(nothing)";
}

function element(name, content = [], attributes = {}) {
  const made = document.createElement(name);
  made.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function bar(probability) {
  const made = element("span", [], { class: "bar", "aria-hidden": "true" });
  made.style.setProperty("--share", `${(100 * probability).toFixed(2)}%`);
  return made;
}

function row(candidate, chosen, onChoose) {
  const name = element("button", visible(candidate.label), { type: "button" });
  name.setAttribute("aria-label", `Continue with ${visible(candidate.label)} instead`);
  name.title = "Continue from here with this token";
  if (candidate.id === chosen.id) {
    name.disabled = true;
    name.setAttribute("aria-label", `${visible(candidate.label)}, which stands there`);
    name.title = "The token in the text";
  }
  name.addEventListener("click", () => onChoose(candidate));
  const chance = element("td", [bar(candidate.chance), element("span", percent(candidate.chance), { class: "number" })]);
  if (candidate.chance === 0) chance.title = "left out by temperature, top-k or top-p";
  return element("tr", [element("th", name, { scope: "row" }), chance, element("td", percent(candidate.probability))]);
}

function about(token, vocabSize, onChoose) {
  const { chosen, alternatives, rank } = token;
  const rows = alternatives.map((candidate) => row(candidate, chosen, onChoose));
  if (!alternatives.some((candidate) => candidate.id === chosen.id)) rows.push(row(chosen, chosen, onChoose));
  const head = element("tr", [
    element("th", "likeliest", { scope: "col" }),
    element("th", "drawn", { scope: "col", title: "at this temperature, after top-k and top-p" }),
    element("th", "model", { scope: "col", title: "by the model alone: temperature 1, nothing left out" }),
  ]);
  return [
    element("p", visible(chosen.label), { class: "label" }),
    element("dl", [
      element("dt", "Drawn with"),
      element("dd", percent(chosen.chance), { class: "chance" }),
      element("dt", "By the model alone"),
      element("dd", percent(chosen.probability), { class: "probability" }),
      element("dt", "Rank"),
      element("dd", `${rank.toLocaleString("en")} of ${vocabSize.toLocaleString("en")}`),
    ]),
    element("table", [element("thead", head), element("tbody", rows)], { "aria-label": "Most likely tokens here" }),
  ];
}

/** The numbers of a token as a sentence for screen readers. */
export function spoken({ chosen, rank }) {
  return `${chosen.label}: drawn with ${percent(chosen.chance)}, by the model alone ${percent(chosen.probability)}, rank ${rank}.`;
}

/**
 * Show the tokens of a group in place of what `panel` holds.
 * `onChoose(index, candidate)` gets the token's place in the story and what shall stand there; `onClose()` nothing.
 */
export function showDetails(panel, group, vocabSize, onChoose, onClose) {
  const close = element("button", "×", { type: "button", class: "close", "aria-label": "Close" });
  close.addEventListener("click", onClose);
  const parts = group.tokens.map((token, index) => {
    const note = `Token ${index + 1} of ${group.tokens.length} that make this character`;
    const title = group.tokens.length > 1 ? [element("p", note, { class: "hint" })] : [];
    const chosen = (candidate) => onChoose(group.start + index, candidate);
    return element("section", [...title, ...about(token, vocabSize, chosen)]);
  });
  panel.replaceChildren(close, ...parts);
}
