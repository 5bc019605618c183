// The comparison: one query, two rankings side by side.
//
// A is always an index. B is another index, or the same by other means, or what a second model or a cross-encoder makes
// of the hits of A. The latter cannot find what A missed, and the page says so.

import { ask } from "./api.js";
import { fill, make, tell } from "./dom.js";
import { showHits } from "./hits.js";
import { count, say } from "./words.js";

const SHOWN = 10;
const CANDIDATES = 50;
const MODES = ["hybrid", "dense", "bm25"];
const RANKINGS = { hybrid: ["fused", "dense", "bm25"], dense: ["dense"], bm25: ["bm25"] };
const panel = document.getElementById("compare");
const fields = panel.querySelector("form").elements;
const sides = [...panel.querySelectorAll(".side")];

export const compare = {
  panel,
  parts: ["q", "a", "b"],

  offer(info) {
    const fresh = fields.a.options.length === 0;
    const ofIndexes = info.indexes.map(({ id, model }) => [
      say("group.index", id, model),
      MODES.map((mode) => [`${mode}:${id}`, `${id} (${model}): ${say(`mode.${mode}`)}`]),
    ]);
    const others = info.models.map(({ served_model_name: name }) => [`model:${name}`, say("other.model", name)]);
    if (info.reranker !== null) others.push([`reranker:${info.reranker}`, say("other.reranker", info.reranker)]);
    fill(fields.a, ofIndexes);
    fill(fields.b, ofIndexes.length === 0 ? [] : [...ofIndexes, [say("group.other"), others]]);
    if (fresh && info.indexes.length > 0) [fields.a.value, fields.b.value] = firstPair(info);
  },

  idle(info) {
    for (const side of sides) clear(side);
    tell(panel, say(info.indexes.length === 0 ? "start.none" : "start.compare"));
  },

  async run(state, info, signal) {
    if (info.indexes.length === 0) return compare.idle(info);
    tell(panel, say("working"));
    const first = await searched(state.q, state.a, signal);
    const [kind] = split(state.b);
    const second = MODES.includes(kind)
      ? await searched(state.q, state.b, signal)
      : await rescored(state.q, state.b, first.hits, signal);
    showSide(0, first, second);
    showSide(1, second, first);
    const [one, other] = [first, second].map(({ hits }) => hits.slice(0, SHOWN));
    if (one.length + other.length === 0) return tell(panel, say("found.none"));
    const shared = one.filter((hit) => other.some((each) => same(hit, each))).length;
    tell(panel, say("found.sides", count(shared), count(Math.max(one.length, other.length))));
  },
};

/** Return which rankings are compared at first: two models if there are, else a model and words. */
function firstPair({ indexes, models, reranker }) {
  const [first] = indexes;
  const other = indexes.find(({ model }) => model !== first.model);
  if (other !== undefined) return [`dense:${first.id}`, `dense:${other.id}`];
  const second = models.find(({ served_model_name: name }) => name !== first.model);
  if (second !== undefined) return [`hybrid:${first.id}`, `model:${second.served_model_name}`];
  if (reranker !== null) return [`hybrid:${first.id}`, `reranker:${reranker}`];
  return [`dense:${first.id}`, `bm25:${first.id}`];
}

async function searched(query, source, signal) {
  const [mode, index] = split(source);
  const { hits, model } = await ask("search", { query, index, mode, top_k: CANDIDATES }, signal);
  const about = mode === "bm25" ? say("about.bm25", index) : say("about.index", index, say(`mode.${mode}`), model);
  return { hits, about, rankings: RANKINGS[mode] };
}

async function rescored(query, source, hits, signal) {
  const [kind, model] = split(source);
  const about = say(`about.${kind}`, model, count(hits.length));
  if (hits.length === 0) return { hits, about, rankings: ["rescored"] };
  const texts = hits.map(({ title, text }) => `${title} ${text}`.trim());
  const ranks = await ask("rerank", { query, texts, model }, signal);
  const ordered = ranks.map(({ index, score }, place) => (
    { ...hits[index], rank: place + 1, rescored: { value: score } }
  ));
  return { hits: ordered, about, rankings: ["rescored"] };
}

function split(source) {
  const place = source.indexOf(":");
  return [source.slice(0, place), source.slice(place + 1)];
}

function showSide(number, { hits, about, rankings }, opposite) {
  const other = "BA"[number];
  const moved = (hit) => {
    const found = opposite.hits.find((each) => same(hit, each));
    return found === undefined
      ? make("span", "moved only", say("moved.only", other, count(opposite.hits.length)))
      : make("span", "moved", say("moved.same", other, count(found.rank)));
  };
  sides[number].querySelector(".about").textContent = about;
  showHits(sides[number].querySelector(".hits"), hits.slice(0, SHOWN), rankings, moved);
}

/** Whether two hits are one passage: two indexes may cut a document alike and still name its pieces otherwise. */
function same(one, other) {
  return one.id === other.id || (one.source === other.source && one.text === other.text);
}

function clear(side) {
  side.querySelector(".about").textContent = "";
  side.querySelector(".hits").replaceChildren();
}
