"""Prompts: templates in files, shipped or the user's own, checked before anything is asked."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, get_args

import jinja2
import yaml
from jinja2 import meta, nodes
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel

from zhihui.config import did_you_mean
from zhihui.errors import InputError
from zhihui.runs import fingerprint
from zhihui.teacher.asking import Ask, Role

M = TypeVar("M", bound=BaseModel)
SHIPPED = Path(__file__).with_name("templates")
SUFFIX = ".zh.jinja"
_BLOCKS = ("system", "user")
_FRONT = ("name", "version", "role")


@dataclass(frozen=True, kw_only=True)
class Prompt(Generic[M]):
    """A question that a method asks: which template words it, with which variables, and what the answer must be."""

    name: str
    schema: type[M]
    sample: Mapping[str, Any]
    """A value for every variable that the template may use; templates are tried with them."""
    needed: frozenset[str]
    """Variables without which the question makes no sense."""


class Template:
    """A template file: front matter with name, version and role, and the blocks system and user.

    Raises:
        InputError: "file:line: reason; mend".
    """

    def __init__(self, path: Path, prompt: Prompt[Any]) -> None:
        self.path = path
        self.source = _read(path)
        front, body = _parted(self.source, path)
        self.role, self.version = _checked_front(front, path, prompt.name)
        tree = _parsed(body, path)
        _check_tree(tree, prompt, path)
        environment = _environment()
        self._template = jinja2.Template.from_code(environment, environment.compile(body, prompt.name, str(path)), {})
        self.render(prompt.sample)

    def render(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """Return the system and the user message."""
        try:
            context = self._template.new_context(dict(values))
            system, user = ("".join(self._template.blocks[block](context)).strip() for block in _BLOCKS)
        except Exception as error:  # a template may raise anything
            frames = traceback.walk_tb(error.__traceback__)
            lines = [line for frame, line in frames if frame.f_code.co_filename == str(self.path)]
            line = self._template.get_corresponding_lineno(lines[-1]) if lines else 1
            raise InputError(f"{self.path}:{line}: cannot be filled in: {error}; mend the template") from None
        return system, user


class Book:
    """The templates of all prompts, a user's own ones in place of those shipped."""

    def __init__(self, prompts: Sequence[Prompt[Any]], folder: Path | None = None) -> None:
        """Read and try the templates.

        Args:
            prompts: whose templates are read.
            folder: of own templates, named as the shipped ones; None uses those shipped.

        Raises:
            InputError: no such folder, one without templates, or a template that cannot be used.
        """
        names = [prompt.name for prompt in prompts]
        own = {} if folder is None else _own_templates(folder, names)
        shipped = {prompt.name: SHIPPED / f"{prompt.name}{SUFFIX}" for prompt in prompts}
        self._templates = {prompt.name: Template((shipped | own)[prompt.name], prompt) for prompt in prompts}

    def fingerprint(self, prompts: Sequence[Prompt[Any]]) -> str:
        """Return what changes when the templates of these prompts do."""
        return fingerprint({prompt.name: self._templates[prompt.name].source for prompt in prompts})

    def ask(self, prompt: Prompt[M], id: str, **values: Any) -> Ask[M]:
        """Return the question about an input; `values` are the template's variables."""
        template = self._templates[prompt.name]
        system, user = template.render(values)
        version = f"{prompt.name}@{template.version}"
        return Ask(id=id, role=template.role, system=system, user=user, schema=prompt.schema, template=version)


def _environment() -> SandboxedEnvironment:
    return SandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _own_templates(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of templates")
    found = {file.name.removesuffix(SUFFIX): file for file in sorted(folder.glob(f"*{SUFFIX}"))}
    for name, file in found.items():
        if name not in names:
            raise InputError(f"{file}: no template is of this name; {did_you_mean(name, names)}")
    if not found:
        raise InputError(f"{folder}: holds no template; name them {', '.join(name + SUFFIX for name in names)}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start + 1}; convert the file") from None


def _parted(source: str, path: Path) -> tuple[dict[str, Any], str]:
    """Return the front matter and the rest, its lines where they are in the file."""
    lines = source.split("\n")
    ends = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    if len(ends) < 2 or ends[0] != 0:
        raise InputError(f"{path}:1: no front matter; begin with ---, the lines name, version and role, and ---")
    try:
        front = yaml.safe_load("\n".join(lines[1 : ends[1]]))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 2 if mark is None else mark.line + 2
        raise InputError(f"{path}:{line}: the front matter is not YAML; write KEY: VALUE lines") from None
    if not isinstance(front, dict):
        raise InputError(f"{path}:2: the front matter holds no settings; write KEY: VALUE lines")
    return front, "\n" * (ends[1] + 1) + "\n".join(lines[ends[1] + 1 :])


def _checked_front(front: dict[str, Any], path: Path, name: str) -> tuple[Role, str]:
    for key in front:
        if key not in _FRONT:
            raise InputError(f"{path}:2: unknown key {key} in the front matter; {did_you_mean(key, _FRONT)}")
    if front.get("name") != name:
        raise InputError(f"{path}:2: name is {front.get('name')!r}; the file is for {name!r}")
    version = front.get("version")
    if not isinstance(version, int | str) or isinstance(version, bool) or not str(version).strip():
        raise InputError(f"{path}:2: version is {version!r}; write a number or word, and change it with the text")
    if front.get("role") not in get_args(Role):
        raise InputError(f"{path}:2: role is {front.get('role')!r}; use {' or '.join(get_args(Role))}")
    return cast(Role, front["role"]), str(version).strip()


def _parsed(body: str, path: Path) -> nodes.Template:
    try:
        return _environment().parse(body)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: not a template: {error.message}") from None


def _check_tree(tree: nodes.Template, prompt: Prompt[Any], path: Path) -> None:
    blocks = [block.name for block in tree.find_all(nodes.Block)]
    for block in _BLOCKS:
        if block not in blocks:
            raise InputError(f"{path}:1: no block {block}; write {{% block {block} %}} ... {{% endblock %}}")
    used = meta.find_undeclared_variables(tree)
    for name in sorted(used - prompt.sample.keys()):
        line = next(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)
        raise InputError(f"{path}:{line}: unknown variable {name}; {did_you_mean(name, prompt.sample)}")
    for name in sorted(prompt.needed - used):
        raise InputError(f"{path}:1: does not use {name}; put {{{{ {name} }}}} where the teacher shall read it")
