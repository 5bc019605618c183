// The search view: a query over one index.

import { ask } from "./api.js";
import { fill, tell } from "./dom.js";
import { showHits } from "./hits.js";
import { count, say } from "./words.js";

const MOST = 20;
const panel = document.getElementById("search");
const fields = panel.querySelector("form").elements;
const list = panel.querySelector(".hits");

export const search = {
  panel,
  parts: ["q", "index", "mode", "filter"],

  offer(info) {
    const { indexes } = info;
    fill(fields.index, [[null, indexes.map(({ id, model }) => [id, `${id} (${model})`])]]);
    panel.querySelector("[data-only=several-indexes]").hidden = indexes.length < 2;
    fields.index.onchange = () => hintAtFields(indexes);
    hintAtFields(indexes);
  },

  idle(info) {
    list.replaceChildren();
    const index = info.indexes.find(({ id }) => id === fields.index.value);
    if (index === undefined) tell(panel, say("start.none"));
    else tell(panel, say("start.search", count(index.passages), index.id, index.model));
  },

  async run(state, info, signal) {
    if (info.indexes.length === 0) return search.idle(info);
    tell(panel, say("working"));
    const filters = state.filter.trim() === "" ? undefined : state.filter;
    const body = { query: state.q, top_k: MOST, mode: state.mode, index: state.index, filters };
    const answer = await ask("search", body, signal);
    showHits(list, answer.hits);
    if (answer.hits.length === 0) return tell(panel, say(filters === undefined ? "found.none" : "found.none.filter"));
    const parts = [say("found", count(answer.hits.length), count(answer.passages), answer.timing.total_ms)];
    if (answer.truncated) parts.push(say("truncated"));
    if (answer.stale !== null) parts.push(say("stale", answer.stale));
    tell(panel, parts.join(" "));
  },
};

function hintAtFields(indexes) {
  const index = indexes.find(({ id }) => id === fields.index.value);
  fields.filter.title = index === undefined ? "" : say("filter.fields", Object.keys(index.fields).join(", "));
}
