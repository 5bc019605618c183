"""Triplet distillation: query, positive and hard negative without a corpus (point 1 of the method).

The writer first brainstorms retrieval tasks, then writes for each a query, a passage that answers it and one that only
seems to (E5-mistral, Wang et al. 2023, arXiv:2401.00368).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.synthesis.checks import QueryChecks, chinese_share, fault_of
from zhihui.synthesis.draws import Variety, Wanted
from zhihui.synthesis.grading import BEST, Grader, GradingConfig, Item
from zhihui.synthesis.label import noted
from zhihui.synthesis.near import near_duplicates, similarity
from zhihui.synthesis.prompts import Prompt
from zhihui.synthesis.texts import Material, cleaned
from zhihui.synthesis.tools import Made, Tools, check_least, stable_id
from zhihui.teacher.asking import Ask

DOMAINS = (
    "医疗健康", "法律与政务", "金融理财", "教育考试", "软件开发", "家用电器与数码", "历史文化", "古诗文", "自然科学",
    "农业与园艺", "烹饪饮食", "旅游出行", "汽车与驾驶", "房产与装修", "求职与劳动", "育儿", "体育健身", "影视与音乐",
    "企业客服", "工程与制造", "电商购物", "心理与情感", "新闻时事", "宠物饲养",
)  # fmt: skip


class TasksWritten(BaseModel):
    """What the writer answers when it brainstorms."""

    tasks: list[str] = Field(description="检索任务，每项一句话，说明查询是什么、要找的文档是什么")


class TripletWritten(BaseModel):
    """What the writer answers."""

    query: str = Field(description="用户的查询")
    positive: str = Field(description="能完整回答查询的文档")
    hard_negative: str = Field(description="话题和用词相近、但回答不了查询的文档")


TASKS = Prompt(
    name="tasks",
    schema=TasksWritten,
    sample={"domain": "法律与政务", "count": 20, "number": 1},
    needed=frozenset({"domain", "count", "number"}),
)
TRIPLET = Prompt(
    name="triplet",
    schema=TripletWritten,
    sample={
        "task": Material("给定一个法律问题，检索能回答它的法条。", "任务"),
        "wanted": Variety().draw(1, "sample")[0].described(),
        "passage_least": 80,
        "passage_most": 400,
        "number": 1,
    },
    needed=frozenset({"task", "wanted", "number"}),
)


@dataclass(frozen=True, kw_only=True)
class TripletConfig:
    """How many triplets are written, on what, and which are accepted.

    Raises:
        InputError: a value out of bounds.
    """

    method: ClassVar[str] = "triplet"
    triplets: int = 100
    """Wanted in all."""
    tasks: int = 40
    """Wanted before triplets are written; each gets its equal share of them."""
    tasks_per_call: int = 20
    domains: tuple[str, ...] = DOMAINS
    """Taken in turn by the calls that brainstorm, in Chinese words."""
    variety: Variety = field(default_factory=Variety)
    checks: QueryChecks = field(default_factory=QueryChecks)
    passage_least: int = 60
    """Characters of a passage, at least."""
    passage_most: int = 400
    """Characters of a passage, at most."""
    instruction: bool = True
    """Whether the task becomes the example's instruction (`prompt`); else the model or the run has one for all."""
    judge: bool = False
    """Whether the judge grades both passages: the positive at least `positive_at`, the negative below."""
    positive_at: float = 3.0
    """Judge: 0 to 4."""
    duplicate_at: float = 0.7
    """Jaccard similarity of character pairs from which a task or query repeats an earlier one, or the negative the
    positive."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "domains", tuple(self.domains))
        check_least(1, triplets=self.triplets, tasks=self.tasks, tasks_per_call=self.tasks_per_call)
        check_least(1, passage_least=self.passage_least)
        if not self.domains or not all(domain.strip() for domain in self.domains):
            raise InputError("domains is empty or holds a blank one; name at least one, or leave it out")
        if self.passage_most < self.passage_least:
            raise InputError(f"passage_most is {self.passage_most}, below passage_least {self.passage_least}; raise it")
        if not 0 < self.positive_at <= BEST:
            raise InputError(f"positive_at is {self.positive_at}; give a grade above 0 and up to {BEST}")
        if not 0 < self.duplicate_at <= 1:
            raise InputError(f"duplicate_at is {self.duplicate_at}; give a similarity above 0 and up to 1")


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    number: int
    task: str
    wanted: Wanted
    written: TripletWritten
    meta: dict[str, Any]


def distil_triplets(config: TripletConfig, tools: Tools) -> Made:
    """Write triplets; every wanted triplet ends as an example or in the log."""
    writing = _Writing(config, tools)
    tasks = writing.brainstorm()
    written = writing.distinct(writing.write(tasks))
    counts: dict[str, Any] = {"tasks": len(tasks), "wanted": config.triplets}
    accepted: list[tuple[_Candidate, dict[str, Any] | None]] = [(one, None) for one in written]
    if config.judge:
        grader = Grader(tools.teacher, tools.book, GradingConfig(seed=config.seed))
        accepted = list(writing.judged(written, grader))
        counts["judge"] = grader.counts()
    counts |= {"accepted": len(accepted), "tasks_left_out": writing.tasks_left_out}
    return Made(examples=[_example(one, judge, config) for one, judge in accepted], counts=counts)


class _Writing:
    def __init__(self, config: TripletConfig, tools: Tools) -> None:
        self._config, self._tools = config, tools
        self.tasks_left_out = 0
        """Brainstormed tasks that repeat one, are no Chinese text, or are beyond what was wanted."""

    def brainstorm(self) -> list[str]:
        config = self._config
        calls = -(-config.tasks // config.tasks_per_call)

        def ask(number: int) -> Ask[TasksWritten]:
            # The number makes questions differ: an equal one would get the answer that is kept.
            domain = config.domains[(number + config.seed) % len(config.domains)]
            name = f"tasks-{number + 1}"
            return self._tools.book.ask(
                TASKS, name, domain=domain, count=config.tasks_per_call, number=f"{config.seed}-{number + 1}"
            )

        found: list[str] = []
        for outcome in self._tools.teacher.ask(map(ask, range(calls)), label="brainstorm tasks", total=calls):
            if outcome.value is None:
                row = {"tasks": outcome.ask.id}
                self._tools.rejects.add(row, outcome.failure or "unreachable", outcome.ask.id, detail=outcome.detail)
            else:
                found += [cleaned(task) for task in outcome.value.tasks]
        usable = [task for task in found if chinese_share(task) >= config.checks.chinese and len(task) <= 200]
        matches = near_duplicates(usable, config.duplicate_at)
        tasks = [task for task, match in zip(usable, matches, strict=True) if match is None][: config.tasks]
        self.tasks_left_out = len(found) - len(tasks)
        return tasks

    def write(self, tasks: Sequence[str]) -> list[_Candidate]:
        config = self._config
        plans = [
            replace(config.variety.draw(1, f"{config.seed}\0{number}")[0], number=number)
            for number in range(1, config.triplets + 1)
        ]
        if not tasks:
            for wanted in plans:
                self._reject(wanted, "", "no_task", "brainstorming gave no usable task")
            return []
        turns = [tasks[place % len(tasks)] for place in range(config.triplets)]

        def ask(place: int) -> Ask[TripletWritten]:
            return self._tools.book.ask(
                TRIPLET,
                f"triplet-{place + 1}",
                task=Material(turns[place], "任务"),
                wanted=plans[place].described(),
                passage_least=config.passage_least,
                passage_most=config.passage_most,
                number=f"{config.seed}-{place + 1}",
            )

        outcomes = self._tools.teacher.ask(map(ask, range(len(plans))), label="write triplets", total=len(plans))
        found = []
        for wanted, task, outcome in zip(plans, turns, outcomes, strict=True):
            if outcome.value is None:
                self._reject(wanted, task, outcome.failure or "unreachable", outcome.detail)
            elif fault := self._fault(outcome.value, wanted):
                self._reject(wanted, task, *fault, written=outcome.value)
            else:
                meta = {"teacher": outcome.teacher, "template": outcome.ask.template, "task": task, **wanted.noted()}
                found.append(
                    _Candidate(number=wanted.number, task=task, wanted=wanted, written=outcome.value, meta=meta)
                )
        return found

    def distinct(self, written: Sequence[_Candidate]) -> list[_Candidate]:
        found = []
        matches = near_duplicates([one.written.query for one in written], self._config.duplicate_at)
        for one, match in zip(written, matches, strict=True):
            if match is None:
                found.append(one)
            else:
                detail = f"nearly the same as {written[match].written.query!r}"
                self._reject(one.wanted, one.task, "near_duplicate", detail, written=one.written)
        return found

    def judged(self, written: Sequence[_Candidate], grader: Grader) -> list[tuple[_Candidate, dict[str, Any]]]:
        items = (
            Item(
                id=f"triplet-{one.number}",
                query=one.written.query,
                passages=[one.written.positive, one.written.hard_negative],
            )
            for one in written
        )
        found = []
        for one, graded in zip(written, grader.grade(items, label="judge triplets"), strict=True):
            reason, detail = graded.failure, graded.detail
            if reason is None:
                positive, negative = graded.grades
                if positive.mean < self._config.positive_at:
                    reason, detail = "positive_fails", f"graded {positive.mean:g}: {positive.reasons[0]}"
                elif negative.mean >= self._config.positive_at:
                    reason, detail = "negative_answers", f"graded {negative.mean:g}: {negative.reasons[0]}"
            if reason is not None:
                self._reject(one.wanted, one.task, reason, detail, written=one.written)
            else:
                scores = [grade.mean for grade in graded.grades]
                found.append((one, {"scores": scores, "grades": noted(graded, 1)}))
        return found

    def _fault(self, written: TripletWritten, wanted: Wanted) -> tuple[str, str] | None:
        config = self._config
        query, positive, negative = written.query.strip(), written.positive.strip(), written.hard_negative.strip()
        if fault := fault_of(query, config.checks, passage=positive, length=wanted.characters):
            return fault
        for name, passage in (("positive", positive), ("hard_negative", negative)):
            if chinese_share(passage) < config.checks.chinese:
                return f"{name}_not_chinese", f"{chinese_share(passage):.0%} of it is Chinese"
            if not config.passage_least <= len(passage) <= config.passage_most:
                bounds = f"{config.passage_least} to {config.passage_most}"
                return f"{name}_length", f"{len(passage)} characters of {bounds}"
        if (alike := similarity(positive, negative)) >= config.duplicate_at:
            return "negative_is_positive", f"the two passages are alike by {alike:.2f}"
        return None

    def _reject(
        self, wanted: Wanted, task: str, reason: str, detail: str, *, written: TripletWritten | None = None
    ) -> None:
        row = {"number": wanted.number, "task": task, **wanted.noted(), **(written.model_dump() if written else {})}
        self._tools.rejects.add(row, reason, f"triplet-{wanted.number}", detail=detail)


def _example(one: _Candidate, judge: dict[str, Any] | None, config: TripletConfig) -> Example:
    query, positive, negative = (
        text.strip() for text in (one.written.query, one.written.positive, one.written.hard_negative)
    )
    scores = None if judge is None else judge["scores"]
    return Example(
        query=query,
        pos=[positive],
        neg=[negative],
        pos_scores=None if scores is None else scores[:1],
        neg_scores=None if scores is None else scores[1:],
        prompt=one.task if config.instruction else None,
        id=f"triplet-{stable_id(query, positive, negative)}",
        source="triplet",
        meta={"method": "triplet", **one.meta, **({} if judge is None else {"grades": judge["grades"]})},
    )
