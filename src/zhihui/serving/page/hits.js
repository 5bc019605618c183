// Hits: passages that were found, with the words they share with the query, and their scores.

import { bar, make, marked } from "./dom.js";
import { say } from "./words.js";

const RANKINGS = ["fused", "dense", "bm25"];

/**
 * Show hits in a list.
 *
 * `rankings` are those whose scores are shown, the deciding one first; `moved` says of a hit where the other side has it.
 */
export function showHits(list, hits, rankings = RANKINGS, moved = null) {
  const best = Object.fromEntries(
    rankings.map((name) => [name, Math.max(...hits.map((hit) => hit[name]?.value ?? 0))]),
  );
  list.replaceChildren(...hits.map((hit) => hitElement(hit, rankings, best, moved)));
}

function hitElement(hit, rankings, best, moved) {
  const head = make("div", "head", make("span", "title", `${hit.rank}. ${hit.title || hit.id}`));
  head.append(make("span", "place", `${hit.source}@${hit.start}`));
  if (moved !== null) head.append(moved(hit));
  const text = make("p", "text", ...marked(hit.snippet.text, hit.snippet.highlights));
  text.lang = "zh-Hans";
  const shown = rankings.filter((name) => hit[name]);
  const scores = make("div", "scores", ...shown.map((name) => scoreElement(name, hit[name], best[name])));
  scores.firstElementChild?.classList.add("first");
  const more = make("button", "more", say("more"));
  more.type = "button";
  more.ariaExpanded = "false";
  scores.append(more);
  const facts = factsElement(hit);
  const item = make("li", "hit", head, text, facts, scores);
  item.tabIndex = 0;
  const toggle = () => {
    const open = more.ariaExpanded === "false";
    more.ariaExpanded = String(open);
    more.textContent = say(open ? "less" : "more");
    const from = open ? hit : hit.snippet;
    text.replaceChildren(...marked(from.text, from.highlights));
    facts.hidden = !open;
  };
  more.addEventListener("click", toggle);
  item.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === item) toggle();
  });
  return item;
}

function scoreElement(name, { value, rank }, best) {
  const place = rank === undefined ? "" : ` #${rank}`;
  return make("span", `score ${name}`, say(`score.${name}`), bar(best > 0 ? value / best : 0), value.toFixed(4) + place);
}

/** Return what else is known of a hit: id, and what its row brought. */
function factsElement(hit) {
  const facts = make("dl", "facts");
  for (const [name, value] of Object.entries({ id: hit.id, ...hit.metadata })) {
    if (value === null || value === "" || (Array.isArray(value) && value.length === 0)) continue;
    const text = Array.isArray(value) ? value.join(" › ") : typeof value === "object" ? JSON.stringify(value) : String(value);
    facts.append(make("dt", "", name), make("dd", "", text));
  }
  facts.hidden = true;
  return facts;
}
