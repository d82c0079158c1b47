// The story on the page: spans of whole characters, each made of one token or, for a rare character, of several.

/** True if the window is as narrow as a phone; page.css has the same width. */
export const narrow = window.matchMedia("(max-width: 40rem)");

/** Surprise of a probability: 0 for 1, 1 for a thousandth and less. */
export function surprise(probability) {
  return Math.min(1, -Math.log10(Math.max(probability, 1e-9)) / 3);
}

/** Colour an element by a probability. */
export function tint(element, probability) {
  element.style.setProperty("--surprise", surprise(probability).toFixed(3));
}

export class Story {
  /** `onSelect(group, pinned)` receives the selected group, {start, tokens, element}, or null. */
  constructor(container, beginning, onSelect) {
    this.container = container;
    this.beginning = beginning;
    this.onSelect = onSelect;
    this.tokens = [];
    this.groups = [];
    this.selected = null;
    this.pinned = false;
    container.addEventListener("pointerover", (event) => this.#point(event));
    container.addEventListener("click", (event) => this.#click(event));
    container.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Start over. */
  start(prompt) {
    this.prompt = prompt;
    this.beginning.textContent = prompt;
    this.keep(0);
  }

  /** Keep only the first tokens. */
  keep(count) {
    const kept = this.tokens.slice(0, count);
    this.select(null);
    this.tokens = [];
    this.groups = [];
    this.container.replaceChildren();
    for (const token of kept) this.append(token);
  }

  append(token) {
    this.tokens.push(token);
    let group = this.groups.at(-1);
    if (token.ends) this.finish();
    if (!group || group.text || token.ends) {
      group = { start: this.tokens.length - 1, tokens: [], text: "", element: document.createElement("span") };
      group.element.className = "token";
      group.element.id = `token-${group.start}`;
      group.element.setAttribute("role", "option");
      group.element.setAttribute("aria-selected", "false");
      this.groups.push(group);
      this.container.append(group.element);
    }
    group.tokens.push(token);
    group.text += token.text;
    this.#show(group, false);
    if (group === this.selected) this.onSelect(group, this.pinned);
    return group;
  }

  /** No more tokens come: an incomplete character stays incomplete. */
  finish() {
    const group = this.groups.at(-1);
    if (group && !group.text) this.#show(group, true);
  }

  select(group, pinned = false) {
    this.selected?.element.setAttribute("aria-selected", "false");
    this.selected = group;
    this.pinned = Boolean(group) && pinned;
    if (group) {
      group.element.setAttribute("aria-selected", "true");
      this.container.setAttribute("aria-activedescendant", group.element.id);
    } else {
      this.container.removeAttribute("aria-activedescendant");
    }
    this.onSelect(group, this.pinned);
    if (this.pinned) group.element.scrollIntoView({ block: "nearest" }); // out from under the details
  }

  #show(group, complete) {
    const ends = group.tokens.at(-1).ends;
    group.element.classList.toggle("end", ends);
    group.element.classList.toggle("break", /^\n+$/.test(group.text));
    group.element.textContent = ends ? "end" : group.text || (complete ? "\ufffd" : "");
    tint(group.element, Math.min(...group.tokens.map((token) => token.chosen.probability)));
  }

  #groupOf(event) {
    const element = event.target.closest(".token");
    return element && this.groups.find((group) => group.element === element);
  }

  #point(event) {
    const group = this.#groupOf(event);
    // In a narrow window the details would cover what the mouse points at.
    if (group && !this.pinned && event.pointerType === "mouse" && !narrow.matches) this.select(group);
  }

  #click(event) {
    const group = this.#groupOf(event);
    if (group) this.select(this.pinned && group === this.selected ? null : group, true);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.groups.length) return;
    const last = this.groups.length - 1;
    const now = this.selected ? this.groups.indexOf(this.selected) : -1;
    const next = {
      ArrowRight: Math.min(now + 1, last),
      ArrowDown: Math.min(now + 1, last),
      ArrowLeft: Math.max(now - 1, 0),
      ArrowUp: Math.max(now - 1, 0),
      Home: 0,
      End: last,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.select(this.groups[next], true);
  }
}
