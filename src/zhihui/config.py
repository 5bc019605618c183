"""Configs from outside: a mapping, a YAML file or KEY=VALUE words become the dataclass that owns the settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from zhihui.errors import InputError

T = TypeVar("T")


def from_mapping(owner: type[T], given: Mapping[str, Any], *, where: str) -> T:
    """Build a config, each value checked against the type of its field.

    Args:
        owner: a dataclass, whose fields may be dataclasses, or lists or mappings of such. One with a `parse` may be
            given as the text that it reads.
        given: nested values; what is left out keeps its default.
        where: for messages: a file, or "--set".

    Raises:
        InputError: an unknown key (the nearest is named), a value of another type or out of bounds.
    """
    checked = _checked(owner, given, where, "")
    try:
        return cast("T", _adapter(owner).validate_python(checked))  # type: ignore[arg-type]  # a class has a hash
    except ValidationError as error:
        raise InputError("; ".join(_readable(one, where) for one in error.errors(include_url=False))) from None


@cache
def _adapter(owner: Any) -> TypeAdapter[Any]:
    """Return what checks a config; made once, for a recipe of many variants builds hundreds of one kind."""
    return TypeAdapter(owner)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        InputError: no such file, not YAML, not a mapping, or a key that is given twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _OnceEach)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings; write KEY: VALUE lines")
    return content


class _OnceEach(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML takes: a key given twice, of which the first would go unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: {key} is given twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_settings(owner: type[T], file: Path | None, words: Sequence[str] | None) -> T:
    """Build a config from a YAML file, if one is given, with KEY=VALUE words laid over it.

    Raises:
        InputError: as `read_yaml`, `with_words` and `from_mapping` say.
    """
    given = with_words(read_yaml(file) if file else {}, words or [])
    return from_mapping(owner, given, where=str(file) if file else "settings")


def to_yaml(settings: Any) -> str:
    """Return all settings of a config as YAML, in their order."""
    return yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True)


def with_words(given: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the settings with KEY=VALUE words laid over them; dots in a key go down, values are read as YAML.

    Raises:
        InputError: a word that is not KEY=VALUE, or goes down into a setting that is no group.
    """
    settings = dict(given)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(f"setting {word!r} cannot be read; write KEY=VALUE, as in loss.temperature=0.05")
        group = settings
        *above, last = key.split(".")
        for name in above:
            inner = group.get(name, {})
            if not isinstance(inner, dict):
                raise InputError(f"setting {word!r}: {name!r} is a value, not a group")
            group[name] = dict(inner)
            group = group[name]
        try:
            group[last] = _number(yaml.safe_load(value))
        except yaml.YAMLError:
            raise InputError(f"setting {word!r}: the value is not YAML") from None
    return settings


def _number(value: Any) -> Any:
    """YAML 1.1 takes 1e-4 for text, since it has no dot; people do not."""
    if isinstance(value, str) and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def did_you_mean(given: object, known: Iterable[str], *, above: str = "") -> str:
    """Return the mend of an unknown name: the nearest one there is, else all of them.

    Args:
        given: the unknown name.
        known: the names there are.
        above: what stands before the name where it is written.
    """
    names = list(known)
    near = difflib.get_close_matches(str(given), names, n=1)
    return f"did you mean {above}{near[0]}?" if near else f"there are: {', '.join(names)}"


def _checked(kind: Any, given: Any, where: str, place: str) -> Any:
    """Return a value whose keys are known all the way down, with text made what a config's `parse` makes of it."""
    inner = get_args(kind)
    if get_origin(kind) is Annotated:
        return _checked(inner[0], given, where, place)
    if get_origin(kind) in (Union, UnionType):
        owners = [each for each in inner if is_dataclass(each)]
        return _checked(owners[0], given, where, place) if len(owners) == 1 and given is not None else given
    if get_origin(kind) in (list, tuple) and isinstance(given, list | tuple):
        return [_checked(inner[0], each, where, f"{place}.{number}") for number, each in enumerate(given)]
    if get_origin(kind) is dict and isinstance(given, Mapping):
        return {key: _checked(inner[1], each, where, f"{place}.{key}") for key, each in given.items()}
    if not is_dataclass(kind) or isinstance(given, kind):  # type: ignore[arg-type]
        return given
    if isinstance(given, str) and hasattr(kind, "parse"):
        try:
            return kind.parse(given)
        except InputError as error:
            raise InputError(f"{where}: {place}: {error}") from None
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: {place} is {given!r}; it is a group of settings")
    types = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    above = f"{place}." if place else ""
    for key in given:
        if key not in known:
            raise InputError(f"{where}: unknown setting {above}{key}; {did_you_mean(key, known, above=above)}")
    return {key: _checked(types[key], value, where, f"{above}{key}") for key, value in given.items()}


def _readable(error: Any, where: str) -> str:
    place = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":  # our own check: it names the field, and its group stands before it
        return f"{where}: {place}: {message}" if place else f"{where}: {message}"
    if error["type"] == "missing":
        return f"{where}: {place} is missing; it has no default, give one"
    return f"{where}: {place} is {error['input']!r}; {message[0].lower()}{message[1:]}"
