// The page: reads the settings, requests stories, and shows them.

import { Refusal, readFacts, readStory } from "./connection.js";
import { showDetails, spoken } from "./details.js";
import { Story, narrow, tint } from "./story.js";

const byId = (id) => document.getElementById(id);
const form = byId("form");
const fields = form.elements;
const story = new Story(byId("story"), byId("beginning"), showSelected);
let facts = null;
let running = null; // the AbortController of the story that is being written

function number(name) {
  const { value } = fields[name];
  return value === "" ? "" : Number(value);
}

/** The settings; an empty mandatory field stays "", which the server refuses. */
function settings() {
  return {
    temperature: number("temperature"),
    top_p: fields.top_p.value === "" && !fields.top_p.validity.badInput ? null : number("top_p"),
    top_k: fields.top_k.value === "" && !fields.top_k.validity.badInput ? null : number("top_k"),
    max_new_tokens: number("max_new_tokens"),
    seed: fields.seed.value === "" && !fields.seed.validity.badInput ? newSeed() : number("seed"),
  };
}

function newSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

function showError(error) {
  const message = byId("error");
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  if (error) story.select(null); // the details may cover the message
  message.hidden = !error;
  message.textContent = error ? error.message[0].toUpperCase() + error.message.slice(1) + (/[.?]$/.test(error.message) ? "" : ".") : "";
  const wrong = error?.field && fields[error.field];
  if (wrong) {
    byId("settings").open ||= byId("settings").contains(wrong);
    wrong.setAttribute("aria-invalid", "true");
    wrong.focus();
  }
}

function showSelected(group, pinned) {
  const panel = byId("details");
  panel.hidden = !group;
  byId("story-hint").hidden = Boolean(group);
  byId("spoken").textContent = group && pinned ? group.tokens.map(spoken).join(" ") : "";
  if (!group) return panel.replaceChildren();
  return showDetails(panel, group, facts.vocab_size, goOn, () => {
    story.select(null);
    byId("story").focus({ preventScroll: true });
  });
}

/** Write a new story, or continue this one from another token at `place`. */
async function write(place = null, candidate = null) {
  running?.abort();
  running = null;
  showError(null);
  const request = { prompt: place === null ? fields.prompt.value : story.prompt, ...settings() };
  if (place !== null) {
    request.story = story.tokens.slice(0, place).map((token) => token.chosen.id);
    request.next_token = candidate.id;
    if (request.max_new_tokens !== "") request.max_new_tokens = Math.max(1, request.max_new_tokens - place);
  }
  const controller = new AbortController();
  running = controller;
  byId("stop").disabled = false;
  const began = performance.now();
  const speed = (count) => `${count} token${count === 1 ? "" : "s"}, ${Math.round((1000 * count) / (performance.now() - began))} per second`;
  let count = 0;
  let status = "";
  byId("status").textContent = "Writing …";
  try {
    const tokens = readStory(request, controller.signal, facts.max_body_bytes);
    for (;;) {
      const { done, value } = await tokens.next();
      if (running !== controller) return;
      if (count === 0) place === null ? story.start(request.prompt) : story.keep(place);
      if (done) {
        const how = value === "end_of_text" ? "The end, by the model" : "Ended at the length limit";
        status = `${how}: ${speed(count)}, seed ${request.seed}.`;
        break;
      }
      const group = story.append(value);
      if (count === 0 && candidate) story.select(group, true); // ready for another choice
      count += 1;
    }
  } catch (error) {
    if (running !== controller) return;
    status = count ? `Interrupted: ${speed(count)}, seed ${request.seed}.` : "";
    if (error.name === "AbortError") status = `Stopped: ${speed(count)}, seed ${request.seed}.`;
    else showError(error instanceof Refusal ? error : new Refusal(`This page failed: ${error.message}`));
  }
  running = null;
  story.finish();
  byId("status").textContent = status;
  const stop = byId("stop");
  if (document.activeElement === stop) byId("write").focus();
  stop.disabled = true;
}

function goOn(place, candidate) {
  write(place, candidate);
  byId("story").focus({ preventScroll: true });
}

/** Two inputs for one value. */
function pair(field, slider) {
  field.addEventListener("input", () => (slider.value = field.value === "" ? field.placeholder : field.value));
  slider.addEventListener("input", () => (field.value = slider.value));
}

function fact(name, value) {
  const box = document.createElement("div");
  const term = document.createElement("dt");
  const description = document.createElement("dd");
  term.textContent = name;
  description.textContent = value;
  box.append(term, description);
  return box;
}

function showFacts() {
  const whole = (value) => value.toLocaleString("en");
  byId("facts").replaceChildren(
    fact("run", facts.run),
    fact("parameters", whole(facts.parameters)),
    fact("context", `${whole(facts.context_length)} tokens`),
    fact("vocabulary", whole(facts.vocab_size)),
    fact("validation loss", facts.valid_loss === null ? "not known" : facts.valid_loss.toFixed(3)),
    fact("device", facts.device),
  );
  document.title = `${facts.run} – Playground`;
}

function showSettings() {
  for (const [name, value] of Object.entries(facts.settings)) {
    if (name !== "seed") fields[name].value = value ?? "";
  }
  for (const name of ["temperature", "top_p"]) {
    const slider = byId(`${name}-slider`);
    slider.value = fields[name].value || fields[name].placeholder;
    pair(fields[name], slider);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (facts) write();
});
fields.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
byId("stop").addEventListener("click", () => running?.abort());
byId("tint").addEventListener("change", (event) => byId("output").classList.toggle("plain", !event.target.checked));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") story.select(null);
});
for (const sample of document.querySelectorAll("#legend .token")) tint(sample, Number(sample.dataset.probability));
if (narrow.matches) byId("settings").open = false;
byId("write").disabled = true;
try {
  facts = await readFacts();
  showFacts();
  showSettings();
  byId("write").disabled = false;
} catch (error) {
  showError(error);
}
