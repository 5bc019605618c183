"""Make the training pairs of recipes/nano.yaml from local clones of the public repositories they come from.

    python scripts/make_pairs.py --list                                       # the git clone commands; run them
    python scripts/make_pairs.py --clones clones --out data/pairs             # one .jsonl.gz a source
    python scripts/make_pairs.py --clones clones --out data/pairs --source lctt laws

Nothing is downloaded here. pairs.yaml beside this file names the sources, pairs_readers.py makes pairs of their files.
Rows are {"query", "pos": [passage], "source", "title", "url_or_path", "kind"}, in the order of the files; the same
clones and seed give the same bytes. Near-duplicates and what evaluation sets hold are removed by the recipe.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b
from heapq import nsmallest
from pathlib import Path
from random import Random
from typing import Literal

from pairs_readers import READERS, Pair

from zhihui import progress
from zhihui.config import did_you_mean, from_mapping, read_yaml
from zhihui.errors import InputError
from zhihui.records import BadRow, write_rows

SOURCES = Path(__file__).with_name("pairs.yaml")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A public repository, and what is taken from it; pairs.yaml says what each field means."""

    name: str
    repository: str
    licence: str
    reader: Literal["markdown", "laws", "classical", "poetry", "kdconv", "medical"]
    files: list[str]
    rows: int
    without: list[str] | None = None

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(f"rows {self.rows} is too small; a source gives at least 1 pair")

    def found(self, clone: Path) -> list[str]:
        """Return the files that are read, relative to the clone, in order.

        Raises:
            InputError: there is none.
        """
        paths = {path.relative_to(clone) for pattern in self.files for path in clone.glob(pattern) if path.is_file()}
        names = sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
        kept = [name for name in names if not any(fnmatchcase(name, pattern) for pattern in self.without or [])]
        if not kept:
            raise InputError(f"{clone}: holds no {' or '.join(self.files)}; is it a clone of {self.repository}?")
        return kept


def read_sources(names: Sequence[str] | None) -> list[Source]:
    """Return the sources of these names, or all.

    Raises:
        InputError: an unknown name.
    """
    entries = read_yaml(SOURCES)
    for name in names or []:
        if name not in entries:
            raise InputError(f"unknown source {name}; {did_you_mean(name, entries)}")
    chosen = {name: entry for name, entry in entries.items() if not names or name in names}
    return [
        from_mapping(Source, {"name": name, **entry}, where=f"{SOURCES.name}: {name}") for name, entry in chosen.items()
    ]


def pairs_of(source: Source, clone: Path, *, seed: int) -> tuple[list[Pair], Counter[str]]:
    """Return all pairs of a clone, in the order of its files, and by reason how much was left out."""
    left_out: Counter[str] = Counter()
    pairs: dict[tuple[str, str], Pair] = {}
    for name in progress.track(source.found(clone), total=None, label=source.name):
        draws = Random(f"{seed} {source.name} {name}")  # of a file's own, so that no other file changes its pairs
        try:
            for pair in READERS[source.reader]((clone / name).read_bytes(), name, draws, left_out):
                key = (pair.query, pair.passage)
                left_out["duplicate"] += key in pairs
                pairs.setdefault(key, pair)
        except BadRow as error:
            left_out[error.code] += 1
    return list(pairs.values()), +left_out


def sample(pairs: list[Pair], rows: int, *, seed: int) -> list[Pair]:
    """Return this many of the pairs in their order; which ones depends on each pair and the seed alone."""

    def draw(place: int) -> bytes:
        return blake2b(f"{seed}\0{pairs[place].query}\0{pairs[place].passage}".encode(), digest_size=8).digest()

    return [pairs[place] for place in sorted(nsmallest(rows, range(len(pairs)), key=draw))]


def make(source: Source, clones: Path, out: Path, *, seed: int) -> str:
    """Write a source's file and return a line that says what is in it.

    Raises:
        InputError: no file of the clone is read, or none gave a pair.
    """
    pairs, left_out = pairs_of(source, clones / source.name, seed=seed)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items())) or "nothing"
    if not pairs:
        raise InputError(f"{clones / source.name}: no pair is left (left out: {reasons}); see pairs_readers.py")
    kept = sample(pairs, source.rows, seed=seed)
    write_rows(out / f"{source.name}.jsonl.gz", (pair.row(source.name) for pair in kept))
    wanted = "" if len(kept) == source.rows else f", {source.rows:,} wanted"
    return f"{source.name}: {len(kept):,} of {len(pairs):,} pairs{wanted} (left out: {reasons})"


def commands(sources: list[Source], clones: Path) -> Iterator[str]:
    """Yield the command that clones each source to where it is looked for."""
    for source in sources:
        url = f"https://github.com/{source.repository}.git"
        yield f"git clone --depth 1 {url} '{clones / source.name}'  # {source.licence}"


def check_clones(sources: list[Source], clones: Path) -> None:
    """See that every clone is there before any is read.

    Raises:
        InputError: one is not.
    """
    absent = [source.name for source in sources if not (clones / source.name).is_dir()]
    if absent:
        mend = "clone as --list says, or choose sources with --source"
        raise InputError(f"{clones}: no clone of {', '.join(absent)}; {mend}")


def main(given: Sequence[str] | None = None) -> int:
    """Make the files, or list the commands; return the exit status: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clones", type=Path, default=Path("clones"), help="folder of the clones (clones)")
    parser.add_argument("--out", type=Path, default=Path("data/pairs"), help="folder of the pairs (data/pairs)")
    parser.add_argument("--source", nargs="+", metavar="NAME", help="sources of pairs.yaml; all, if left out")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    parser.add_argument("--list", action="store_true", help="print the git clone commands and stop")
    options = parser.parse_args(given)
    try:
        sources = read_sources(options.source)
        if options.list:
            print("\n".join(commands(sources, options.clones)))
            return 0
        check_clones(sources, options.clones)
        for source in sources:
            print(make(source, options.clones, options.out, seed=options.seed), flush=True)
    except InputError as error:
        print(f"make_pairs: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
