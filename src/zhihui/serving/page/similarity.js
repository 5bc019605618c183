// The playground: one text against several lines.

import { ask } from "./api.js";
import { bar, fill, make, tell } from "./dom.js";
import { count, say } from "./words.js";

const panel = document.getElementById("similarity");
const fields = panel.querySelector("form").elements;
const list = panel.querySelector(".lines");

export const similarity = {
  panel,
  parts: ["text", "lines", "model", "as"],

  offer(info) {
    fill(fields.model, [[null, info.models.map(({ served_model_name: name }) => [name, name])]]);
  },

  idle() {
    list.replaceChildren();
    tell(panel, say("start.similarity"));
  },

  async run(state, info, signal) {
    const lines = state.lines.split("\n").map((line) => line.trim()).filter((line) => line !== "");
    if (state.text.trim() === "" || lines.length === 0) return tell(panel, say("error.lines"), true);
    tell(panel, say("comparing"));
    const begun = performance.now();
    const cosines = await cosinesOf(state, lines, signal);
    const sorted = lines.map((line, place) => [line, cosines[place]]).sort((one, other) => other[1] - one[1]);
    list.replaceChildren(...sorted.map(([line, cosine]) => lineElement(line, cosine)));
    tell(panel, say("found.lines", count(lines.length), Math.round(performance.now() - begun)));
  },
};

/** Return the cosine of each line, under the model's prompts where the text is a query. */
async function cosinesOf({ text, model, as }, lines, signal) {
  if (as !== "query") return ask("similarity", { inputs: { source_sentence: text, sentences: lines }, model }, signal);
  const cosines = new Array(lines.length);
  for (const { index, score } of await ask("rerank", { query: text, texts: lines, model }, signal)) cosines[index] = score;
  return cosines;
}

function lineElement(line, cosine) {
  const text = make("span", "text", line);
  text.lang = "zh-Hans";
  return make("li", "line", text, bar(cosine), make("span", "value", cosine.toFixed(4)));
}
