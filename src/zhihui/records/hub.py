"""Where a model lies: shipped inside, in a folder, or on the hub, from which it is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zhihui.errors import InputError
from zhihui.records.shipped import model_path

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""Files of a model that are read: no pickles, and no code."""


def model_folder(model: str | Path, *, files: Sequence[str] = MODEL_FILES, revision: str | None = None) -> Path:
    """Return the folder of a model: that of a shipped one, the one named, or a fetched copy of a hub id.

    Args:
        model: name of a shipped model, folder, or hub id.
        files: patterns of what is fetched.
        revision: of a hub id: branch, tag or commit.

    Raises:
        InputError: no such model, it cannot be fetched, or a folder is given with a revision.
    """
    folder = model_path(model)
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"{folder}: a local folder has no revisions; leave out revision {revision!r}")
        return folder
    looks_local = folder.is_absolute() or str(model).startswith((".", "~")) or str(model).count("/") != 1
    if looks_local or folder.exists():
        raise InputError(f"{model}: no such model folder; give a folder or a hub id such as org/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(str(model), revision=revision, allow_patterns=list(files)))
    except Exception as error:  # the network fails in many ways; to the user they are one
        unknown = isinstance(error, HFValidationError | RepositoryNotFoundError | RevisionNotFoundError)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        what = "the hub does not know it" if unknown else "it cannot be fetched"
        raise InputError(f"{model}: no such folder, and {what} ({reason})") from None
