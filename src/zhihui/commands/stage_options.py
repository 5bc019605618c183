"""Options of verbs that run one stage with settings of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; by default a GPU if any.")]
Show = Annotated[bool, typer.Option("--show-settings", help="Print all settings as they would be used, and stop.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the manifest as JSON; no progress bar.")]
