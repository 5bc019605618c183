// Words: all that the page says, in Chinese and English, and which of the two it speaks.

const WORDS = {
  en: {
    "language.other": "中文",
    "tabs": "Views",
    "tab.search": "Search",
    "tab.compare": "Compare",
    "tab.similarity": "Similarity",
    "go.search": "Search",
    "go.compare": "Compare",
    "go.similarity": "Compare",
    "query": "Query",
    "query.hint": "What are you looking for?",
    "index": "Index",
    "mode": "Ranked by",
    "mode.hybrid": "words and vectors",
    "mode.dense": "vectors",
    "mode.bm25": "words (BM25)",
    "filter": "Filter",
    "filter.hint": "source = handbook.md and year >= 2020",
    "filter.fields": "Fields to filter by: {0}",
    "hits": "Results",
    "hits.a": "Results of A",
    "hits.b": "Results of B",
    "side.a": "Ranking A",
    "side.b": "Ranking B",
    "text": "Text",
    "text.hint": "One text",
    "lines": "Compared with, one a line",
    "lines.hint": "Several texts,\none a line",
    "model": "Model",
    "as": "Read as",
    "as.equals": "equals, without a prompt",
    "as.query": "query and passages",
    "keys": "/ query · Enter search · ↑ ↓ results, Enter opens one · Esc clear · 1 2 3 views",
    "key.title": "API key",
    "key.why": "This server answers those who have a key. It is kept until this tab is closed.",
    "key.label": "Key",
    "key.use": "Use it",
    "key.cancel": "Cancel",
    "key.wrong": "The server does not take this key.",
    "key.missing": "This server wants an API key. Search again to give one.",
    "working": "Searching…",
    "comparing": "Comparing…",
    "start.search": "{0} passages in {1}, embedded by {2}.",
    "start.none": "No index is served here. Start the server with one: zhihui serve MODEL --index INDEX",
    "start.compare": "One query, two rankings side by side.",
    "start.similarity": "Cosines of one text with others.",
    "found": "{0} of {1} passages, {2} ms. Bars are relative to the best shown.",
    "found.none": "Nothing found. Other words may help, or another mode.",
    "found.none.filter": "Nothing found among the passages that meet the filter.",
    "found.sides": "{0} of the first {1} are the same.",
    "found.lines": "{0} lines, {1} ms. A full bar is a cosine of 1.",
    "truncated": "The query is longer than the model reads; its end was not used.",
    "stale": "The index was written anew, but this server cannot use it: {0}",
    "score.dense": "vectors",
    "score.bm25": "words",
    "score.fused": "fused",
    "score.rescored": "score",
    "more": "whole passage",
    "less": "less",
    "moved.same": "{0}: #{1}",
    "moved.only": "not in the first {1} of {0}",
    "group.index": "Index {0}, model {1}",
    "group.other": "A's results, ranked anew",
    "other.model": "by model {0}",
    "other.reranker": "by cross-encoder {0}",
    "about.index": "Index {0}, ranked by {1}; model {2}.",
    "about.bm25": "Index {0}, ranked by words alone; no model.",
    "about.model": "The first {1} results of A, ordered by their cosine under {0}. It sees no other passages, so it can " +
      "raise what A found, but cannot find what A missed.",
    "about.reranker": "The first {1} results of A, ordered by the cross-encoder {0}. It sees no other passages.",
    "error.network": "The server cannot be reached. Is it still running?",
    "error.busy": "The server is busy. Try again in {0} s.",
    "error.said": "The server says: {0}",
    "error.empty": "Write some words first.",
    "error.lines": "Write a text, and at least one line to compare it with.",
  },
  zh: {
    "language.other": "English",
    "tabs": "视图",
    "tab.search": "检索",
    "tab.compare": "对比",
    "tab.similarity": "相似度",
    "go.search": "检索",
    "go.compare": "对比",
    "go.similarity": "比较",
    "query": "查询",
    "query.hint": "想找什么？",
    "index": "索引",
    "mode": "排序依据",
    "mode.hybrid": "词与向量",
    "mode.dense": "向量",
    "mode.bm25": "词（BM25）",
    "filter": "筛选",
    "filter.hint": "source = handbook.md and year >= 2020",
    "filter.fields": "可筛选的字段：{0}",
    "hits": "结果",
    "hits.a": "A 的结果",
    "hits.b": "B 的结果",
    "side.a": "排序 A",
    "side.b": "排序 B",
    "text": "文本",
    "text.hint": "一段文本",
    "lines": "与之比较，每行一条",
    "lines.hint": "多段文本，\n每行一条",
    "model": "模型",
    "as": "看作",
    "as.equals": "同类文本，不加提示",
    "as.query": "查询与段落",
    "keys": "/ 输入 · 回车 检索 · ↑ ↓ 选择结果，回车展开 · Esc 清空 · 1 2 3 切换视图",
    "key.title": "API 密钥",
    "key.why": "此服务需要密钥。密钥只保存到关闭本标签页为止。",
    "key.label": "密钥",
    "key.use": "使用",
    "key.cancel": "取消",
    "key.wrong": "服务器不接受这个密钥。",
    "key.missing": "此服务需要 API 密钥。再次检索即可填写。",
    "working": "检索中…",
    "comparing": "比较中…",
    "start.search": "索引 {1} 共 {0} 个段落，向量由 {2} 生成。",
    "start.none": "此服务没有索引。启动时加上索引即可：zhihui serve MODEL --index INDEX",
    "start.compare": "同一查询，两种排序并排对照。",
    "start.similarity": "一段文本与多段文本的余弦相似度。",
    "found": "{1} 个段落中的 {0} 个，{2} 毫秒。横条相对于所示最高分。",
    "found.none": "没有找到。可以换个说法，或换一种排序。",
    "found.none.filter": "符合筛选条件的段落中没有找到。",
    "found.sides": "前 {1} 个结果中有 {0} 个相同。",
    "found.lines": "{0} 行，{1} 毫秒。横条满格为余弦 1。",
    "truncated": "查询超过模型的长度，末尾部分没有用上。",
    "stale": "索引已经更新，但此服务无法使用：{0}",
    "score.dense": "向量",
    "score.bm25": "词",
    "score.fused": "融合",
    "score.rescored": "得分",
    "more": "全文",
    "less": "收起",
    "moved.same": "{0} 中第 {1}",
    "moved.only": "{0} 的前 {1} 中没有",
    "group.index": "索引 {0}，模型 {1}",
    "group.other": "对 A 的结果重新排序",
    "other.model": "按模型 {0}",
    "other.reranker": "按交叉编码器 {0}",
    "about.index": "索引 {0}，按{1}排序；模型 {2}。",
    "about.bm25": "索引 {0}，只按词排序，不用模型。",
    "about.model": "A 的前 {1} 个结果，按 {0} 的余弦重新排序。它看不到其他段落：能把 A 找到的提前，找不到 A 遗漏的。",
    "about.reranker": "A 的前 {1} 个结果，按交叉编码器 {0} 重新排序。它看不到其他段落。",
    "error.network": "无法连接服务器。它还在运行吗？",
    "error.busy": "服务器繁忙，请 {0} 秒后再试。",
    "error.said": "服务器的回答：{0}",
    "error.empty": "请先输入内容。",
    "error.lines": "请输入一段文本，以及至少一行用来比较的文本。",
  },
};
const KEPT = "zhihui.language";

let spoken = kept() ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

function kept() {
  try {
    const found = localStorage.getItem(KEPT);
    return found in WORDS ? found : null;
  } catch {
    return null; // a browser that keeps nothing
  }
}

/** Return the words of a key, with values in place of {0}, {1}. */
export function say(key, ...values) {
  return WORDS[spoken][key].replace(/\{(\d)\}/g, (_, place) => values[Number(place)]);
}

/** Return a number as the language writes it. */
export function count(number) {
  return number.toLocaleString(spoken === "zh" ? "zh-CN" : "en");
}

/** Speak the other language from now on. */
export function switchLanguage() {
  spoken = spoken === "zh" ? "en" : "zh";
  try {
    localStorage.setItem(KEPT, spoken);
  } catch {
    // Then it is for this visit alone.
  }
}

/** Write the words into all elements that ask for some. */
export function translate() {
  document.documentElement.lang = spoken === "zh" ? "zh-Hans" : "en";
  for (const each of document.querySelectorAll("[data-say]")) each.textContent = say(each.dataset.say);
  for (const each of document.querySelectorAll("[data-label]")) each.ariaLabel = say(each.dataset.label);
  for (const each of document.querySelectorAll("[data-hint]")) each.placeholder = say(each.dataset.hint);
  const other = document.getElementById("language");
  other.textContent = say("language.other");
  other.lang = spoken === "zh" ? "en" : "zh-Hans";
}
