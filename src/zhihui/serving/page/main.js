// The page: its views, the address that holds what they show, and the keys.

import { ask, Failure } from "./api.js";
import { compare } from "./compare.js";
import { has, tell } from "./dom.js";
import { search } from "./search.js";
import { similarity } from "./similarity.js";
import { switchLanguage, translate } from "./words.js";

const VIEWS = { search, compare, similarity };
const NAMES = Object.keys(VIEWS);
const tabs = NAMES.map((name) => document.getElementById(`tab-${name}`));
let info = null;

// ------------------------------------------------------------------ the address: #tab=search&q=...

function address() {
  return new URLSearchParams(location.hash.slice(1));
}

function currentName() {
  const name = address().get("tab");
  return name in VIEWS ? name : "search";
}

/** Put a view and what it shows into the address, from which `show` takes it. */
function go(name, state = {}) {
  const parts = address();
  parts.set("tab", name);
  for (const [part, value] of Object.entries(state)) {
    if (value === "") parts.delete(part);
    else parts.set(part, value);
  }
  if (`#${parts}` === location.hash) show(true);
  else location.hash = parts;
}

/** Go to another view; what was typed here comes along. */
function leaveFor(name) {
  go(name, stateOf(VIEWS[currentName()]));
}

/** Show what the address says; a view that shows it already is left alone unless it is asked for again. */
async function show(again = false) {
  const name = currentName();
  for (const [place, tab] of tabs.entries()) {
    const chosen = NAMES[place] === name;
    tab.ariaSelected = String(chosen);
    tab.tabIndex = chosen ? 0 : -1;
    VIEWS[NAMES[place]].panel.hidden = !chosen;
  }
  fillInAll(VIEWS[name]); // before anything is asked: what the address holds must not be lost if that fails
  if (info === null && !(await learn(name))) return;
  await showView(name, again);
}

/** Ask what is served; returns whether it was told. */
async function learn(name) {
  try {
    info = await ask("info");
  } catch (error) {
    failed(VIEWS[name], error);
    return false;
  }
  for (const view of Object.values(VIEWS)) view.offer(info);
  return true;
}

async function showView(name, again) {
  const view = VIEWS[name];
  fillInAll(view);
  const state = stateOf(view);
  const key = JSON.stringify(state);
  if (view.shown === key && !again) return;
  view.shown = key;
  view.calls?.abort();
  view.calls = new AbortController();
  const asked = (state.q ?? (state.text + state.lines)).trim() !== "";
  try {
    if (asked) await view.run(state, info, view.calls.signal);
    else view.idle(info);
  } catch (error) {
    failed(view, error);
  }
}

function fillInAll(view) {
  const parts = address();
  const { elements } = view.panel.querySelector("form");
  for (const part of view.parts) fillIn(elements[part], parts.get(part));
}

/** Write a part of the address into its field; a choice that is not offered, or not named, stays what it is. */
function fillIn(field, value) {
  if (!(field instanceof HTMLSelectElement)) field.value = value ?? "";
  else if (value !== null && has(field, value)) field.value = value;
}

/** Return what a view's fields hold; a choice that has nothing to choose from yet is left out. */
function stateOf(view) {
  const { elements } = view.panel.querySelector("form");
  const filled = view.parts.filter((part) => elements[part].options?.length !== 0);
  return Object.fromEntries(filled.map((part) => [part, elements[part].value]));
}

function failed(view, error) {
  if (error.name === "AbortError") return; // another call has taken its place
  view.shown = null;
  view.panel.querySelectorAll("ol").forEach((list) => list.replaceChildren());
  tell(view.panel, error instanceof Failure ? error.message : String(error), true);
}

// ------------------------------------------------------------------ keys and clicks

function clear(view) {
  const { elements } = view.panel.querySelector("form");
  const texts = view.parts.filter((part) => !(elements[part] instanceof HTMLSelectElement));
  for (const part of texts) elements[part].value = "";
  go(currentName(), Object.fromEntries(texts.map((part) => [part, ""])));
  firstField(view).focus();
}

function firstField(view) {
  return view.panel.querySelector("form input");
}

/** Move the focus by a step through the results; from the first one up is the query. Returns whether it moved. */
function step(view, by) {
  const hits = [...view.panel.querySelectorAll(".hit")];
  const from = hits.indexOf(document.activeElement?.closest(".hit"));
  const to = from + by;
  if (hits.length === 0 || (from < 0 && by < 0) || to >= hits.length) return false;
  const target = to < 0 ? firstField(view) : hits[to];
  target.focus();
  target.scrollIntoView({ block: "nearest" });
  return true;
}

/** In the comparison: move the focus to the same rank on the other side. */
function cross(view, side) {
  const hit = document.activeElement?.closest(".hit");
  const lists = [...view.panel.querySelectorAll(".hits")];
  if (!hit || lists.length < 2) return;
  const place = [...hit.parentElement.children].indexOf(hit);
  const hits = lists[side].children;
  hits[Math.min(place, hits.length - 1)]?.focus();
}

function pressed(event) {
  const view = VIEWS[currentName()];
  // While a Chinese input method composes, the keys are its own.
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const within = event.target;
  const writes = within.matches("input, textarea, select");
  if (event.key === "Escape") clear(view);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (within.matches("textarea, select") || !step(view, event.key === "ArrowDown" ? 1 : -1)) return;
  } else if (writes) return;
  else if (event.key === "/") firstField(view).focus();
  else if (["1", "2", "3"].includes(event.key)) {
    leaveFor(NAMES[Number(event.key) - 1]);
    tabs[Number(event.key) - 1].focus();
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const by = event.key === "ArrowRight" ? 1 : -1;
    if (!within.matches("[role=tab]")) return cross(view, by > 0 ? 1 : 0);
    const next = tabs[(tabs.indexOf(within) + by + tabs.length) % tabs.length];
    next.click();
    next.focus();
  } else return;
  event.preventDefault();
}

function begin() {
  translate();
  for (const [place, name] of NAMES.entries()) {
    const view = VIEWS[name];
    const form = view.panel.querySelector("form");
    tabs[place].addEventListener("click", () => leaveFor(name));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      go(name, stateOf(view));
    });
    form.addEventListener("change", ({ target }) => {
      if (target instanceof HTMLSelectElement) go(name, stateOf(view));
    });
  }
  document.getElementById("language").addEventListener("click", () => {
    switchLanguage();
    translate();
    for (const view of Object.values(VIEWS)) {
      if (info !== null) view.offer(info);
      view.shown = null;
    }
    show();
  });
  document.addEventListener("keydown", pressed);
  addEventListener("hashchange", () => show());
  show();
  firstField(VIEWS[currentName()]).focus();
}

begin();
