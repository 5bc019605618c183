"""What a user can mend, told apart from what only we can mend.

Exception
├── InputError(ValueError)       the user's input is at fault: one line, exit status 2
│   └── MissingExtra             an optional dependency is absent: the line names the pip command
└── RunFailure(RuntimeError)     the input was fine and the run still failed: one line, exit status 1
"""

from __future__ import annotations

import importlib
from types import ModuleType


class InputError(ValueError):
    """What the user gave cannot be used; the message says what, where, and how to mend it."""


class RunFailure(RuntimeError):
    """A run that started on good input could not be finished."""


class MissingExtra(InputError):
    """An optional dependency is not installed."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say which pip command installs it.

    Args:
        module: dotted name of the module.
        extra: the extra of this package that brings it.
        purpose: what it is needed for, completing "... needs `module`".

    Raises:
        MissingExtra: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A dependency broken inside is its own story; only the absence of the module itself is mended by an extra.
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(
            f"{purpose} needs {module.split('.')[0]}, which is not installed: pip install 'zhihui[{extra}]'"
        ) from None
