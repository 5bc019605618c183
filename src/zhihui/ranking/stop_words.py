"""Chinese words that say how a sentence is built, not what it is about."""

from __future__ import annotations

# Question words stay: a passage that says why or how answers another question than one that says when.
_WORDS = (
    "的 地 得 之 了 着 过 吗 呢 吧 啊 呀 嘛 么 啦 哦 "
    "是 在 有 和 与 及 或 而 且 并 但 也 都 就 还 又 很 太 更 最 把 被 让 给 对 向 从 到 于 以 为 因为 所以 如果 "
    "但是 而且 并且 或者 以及 然后 那么 这 那 这个 那个 这些 那些 这样 那样 一个 一些 一种 "
    "我 你 他 她 它 我们 你们 他们 她们 它们 自己 请问 一下 可以 the a an of to in on and or is are"
)
STOP_WORDS = frozenset(_WORDS.split())
"""As `segment` returns them: simplified and in lower case."""
