"""Configs from outside: a mapping, a YAML file or KEY=VALUE words become the dataclass that owns the settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from zhihui.errors import InputError

T = TypeVar("T")


def from_mapping(owner: type[T], given: Mapping[str, Any], *, where: str) -> T:
    """Build a config, each value checked against the type of its field.

    Args:
        owner: a dataclass, whose fields may be dataclasses.
        given: nested values; what is left out keeps its default.
        where: for messages: a file, or "--set".

    Raises:
        InputError: an unknown key (the nearest is named), a value of another type or out of bounds.
    """
    _check_keys(owner, given, where, "")
    try:
        return TypeAdapter(owner).validate_python(dict(given))
    except ValidationError as error:
        raise InputError("; ".join(_readable(one, where) for one in error.errors(include_url=False))) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        InputError: no such file, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings; write KEY: VALUE lines")
    return content


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


def _check_keys(owner: Any, given: Any, where: str, above: str) -> None:
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: {above.rstrip('.')} is {given!r}; it is a group of settings")
    types = get_type_hints(owner)
    known = [field.name for field in fields(owner)]
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            mend = f"did you mean {above}{near[0]}?" if near else f"there are: {', '.join(known)}"
            raise InputError(f"{where}: unknown setting {above}{key}; {mend}")
        if is_dataclass(types[key]):
            _check_keys(types[key], value, where, f"{above}{key}.")


def _readable(error: Any, where: str) -> str:
    place = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":  # our own check: it names the field, and its group stands before it
        return f"{where}: {place}: {message}" if place else f"{where}: {message}"
    return f"{where}: {place} is {error['input']!r}; {message[0].lower()}{message[1:]}"
