"""The command line: `zhihui VERB`. Parses, builds, calls; nothing heavy is imported before a verb runs.

Exit status: 0 done, 1 failed, 2 bad usage or bad input. A user's mistake is one line on stderr, never a traceback.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from zhihui import __version__, commands
from zhihui.errors import InputError

app = typer.Typer(
    name="zhihui",
    help="Make, measure and serve Chinese text-retrieval embedding models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
commands.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zhihui {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; set ZHIHUI_DEBUG=1 to see the traceback of a failure."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except InputError as error:
        _report(error, status=2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        _report(error, status=1)


def _report(error: Exception, *, status: int) -> None:
    if os.environ.get("ZHIHUI_DEBUG") == "1":
        raise error
    line = " ".join(str(error).split()) or type(error).__name__
    known = type(error).__module__.startswith("zhihui.")
    hint = "" if known else f" ({type(error).__name__}; ZHIHUI_DEBUG=1 shows where)"
    typer.echo(f"zhihui: {line}{hint}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
