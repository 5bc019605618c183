"""Indexes: what is searched, each by the model it was made by, renewed when somebody writes it anew."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zhihui.config import did_you_mean
from zhihui.errors import InputError
from zhihui.serving.models import Models, ServedModel, split_alias
from zhihui.serving.refusals import Refusal, bad_input

if TYPE_CHECKING:
    from zhihui.search import Index

logger = logging.getLogger("zhihui.serving")
INDEX_NOT_FOUND = "index_not_found"
_THREADS = 4
"""Searches at once; most of their time they read memory and multiply, without Python's lock."""


class QueryVector:
    """The encoder of one query, whose vector the workers have computed already."""

    def __init__(self, model: ServedModel, vector: NDArray[np.float32]) -> None:
        """Stand in for a model.

        Args:
            model: by which the vector was computed.
            vector: `[D]`.
        """
        self.name, self.fingerprint = model.name, model.fingerprint
        self.settings, self.dimension, self.dtype = model.encoder.settings, model.encoder.dimension, model.encoder.dtype
        self._vector = vector

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """Return the vector `[1, D]`; which query it is of, and with which prompt, was settled before."""
        assert len(texts) == 1, "a search has one query"
        return self._vector[None]

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Fail: a search encodes no documents."""
        raise NotImplementedError


class ServedIndex:
    """An index under a name, with the model that its queries are embedded by. Safe for threads."""

    def __init__(self, name: str, folder: Path, models: Models) -> None:
        """Open it and search once, so that what is missing is told now.

        Raises:
            InputError: not an index, one that another model than those served made, or an optional dependency is not
                installed.
        """
        from zhihui.search import open_index

        self.name = name
        index = open_index(folder)
        self.model = _maker(index, models)
        self._index = self._tried(index)
        self._renewing = threading.Lock()
        self.stale: str | None = None
        """Why a newer state of the index is not searched; None where there is none, or it is."""

    def newest(self) -> Index:
        """Return the index as it was written last; while one thread opens that, others go on with the one before.

        The one before is closed when the last search in it ends. A new state that cannot be read, or that another
        model made, is not taken: what is open stays open.
        """
        from zhihui.search import open_index

        if self._renewing.acquire(blocking=False):
            try:
                if not self._index.is_current:
                    self._index = self._tried(open_index(self._index.folder))
                    logger.info("index renewed", extra={"facts": {"index": self.name, "passages": len(self._index)}})
                self.stale = None
            except Exception as error:  # whatever ails the new state, the one that is open answers
                reason = str(error) if isinstance(error, InputError) else type(error).__name__
                if self.stale != reason:
                    logger.warning("index not renewed", extra={"facts": {"index": self.name, "reason": reason}})
                self.stale = reason
            finally:
                self._renewing.release()
        return self._index

    def described(self) -> dict[str, Any]:
        """Return what callers are told of it."""
        about = self.newest().description
        return {
            "id": self.name,
            "object": "index",
            "model": self.model.name,
            "passages": about.passages,
            "files": about.files,
            "dimension": about.dimension,
            "backend": about.backend,
            "fields": about.fields,
            "created": about.created,
            "stale": self.stale,
        }

    def _tried(self, index: Index) -> Index:
        """Search an index once: its model is checked, its files are mapped, its dependencies are there."""
        index.search("预热", encoder=QueryVector(self.model, index.vectors(0, 1)[0]), top_k=1)
        return index


class Indexes:
    """The indexes of a server, the first being the default."""

    def __init__(self, folders: Mapping[str, Path], models: Models) -> None:
        """Open indexes.

        Args:
            folders: name -> folder.
            models: those that are served.

        Raises:
            InputError: not an index, or one that another model than those served made.
        """
        self.by_name = {name: ServedIndex(name, folder, models) for name, folder in folders.items()}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="zhihui-search")

    def __iter__(self) -> Iterator[ServedIndex]:
        return iter(self.by_name.values())

    def find(self, name: str | None, model: ServedModel | None) -> ServedIndex:
        """Return the index that a call names, else the first, else the first that a model made.

        Raises:
            Refusal: 404, no such index; 400, it is of another model than the call names.
        """
        if not self.by_name:
            raise Refusal(404, "no index is served here; start the server with --index", code=INDEX_NOT_FOUND)
        if name is not None and name not in self.by_name:
            message = f"index {name[:100]!r} is not served here; {did_you_mean(name[:100], self.by_name)}"
            raise Refusal(404, message, param="index", code=INDEX_NOT_FOUND)
        among = [each for each in self if name in (None, each.name)]
        found = next((each for each in among if model in (None, each.model)), None)
        if found is None:
            assert model is not None, "without a model, any index will do"
            made = ", ".join(f"{each.name} by {each.model.name}" for each in among)
            raise bad_input(f"no index was made by model {model.name!r} ({made}); leave out model", param="model")
        return found

    async def run(self, function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """Run something that reads an index, off the event loop.

        Raises:
            TimeoutError: it takes longer than some seconds; if it has not begun, it never will.
        """
        task = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        return await asyncio.wait_for(task, seconds)

    def close(self) -> None:
        """Begin no search any more."""
        self._threads.shutdown(cancel_futures=True)


def find_indexes(given: Sequence[str]) -> dict[str, Path]:
    """Return name -> folder of indexes, after a look into each: models may take minutes to load before they are opened.

    Args:
        given: NAME=INDEX, or the folder alone, whose name it gets.

    Raises:
        InputError: not an index, or two of one name.
    """
    from zhihui.search import open_index

    found: dict[str, Path] = {}
    for each in given:
        name, folder = split_alias(each, "index")
        name = name or Path(folder).resolve().name
        if name in found:
            raise InputError(f"two indexes are called {name!r}; give one another name: NAME={folder}")
        open_index(folder).close()
        found[name] = Path(folder)
    return found


def _maker(index: Index, models: Models) -> ServedModel:
    """Return the served model that an index was made by."""
    wanted = index.description.fingerprint
    found = next((model for model in models if model.fingerprint == wanted), None)
    if found is not None:
        return found
    if len(models.by_name) == 1:
        index.check(models.default.encoder)  # which says in what the two differ
    served = ", ".join(models.by_name)
    raise InputError(
        f"{index.folder}: was made by {index.description.model}, and none of the models served ({served}) gives the "
        "same vectors; serve that one too, or write the index again with --rebuild"
    )
