"""Kinds of fuzzing cases in which the input is whole and its surroundings are not: trees of links
and other things that are not files, signals, streams, other processors, inputs in another order.
"""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.robustness.processes import OTHER_PROCESSOR, STREAMS

FOLDERS = (
    *("a", "b", "dt=2026-01-01", "_late=1", "k=%00%FF", "news-desk=a b"),
    *(".hidden", "_temporary"),
)
NAMES = ("1.parquet", "2.parquet", "part-0000", "3.PARQUET", ".4.parquet", "_SUCCESS", "5.parq")
TABLES = (
    "_delta_log/00000000000000000000.json",
    ".hoodie/hoodie.properties",
    "metadata/v1.metadata.json",
)


@dataclass(frozen=True)
class Surroundings:
    """A real process for a case.

    streams: key of `processes.STREAMS`, or None for files. signal_number: sent `delay_s`
    after the process began to listen.
    """

    environment: dict[str, str] = field(default_factory=dict)
    streams: str | None = None
    signal_number: signal.Signals | None = None
    delay_s: float = 0.0


def random_signal(chance: Random) -> Surroundings:
    """SIGTERM or SIGINT at any stage of a run of about two seconds."""
    number = chance.choice((signal.SIGTERM, signal.SIGINT))
    return Surroundings(signal_number=number, delay_s=chance.uniform(0.0, 2.5))


def broken_streams(chance: Random) -> Surroundings:
    """Standard streams that are full, closed or without a reader."""
    return Surroundings(streams=chance.choice(sorted(STREAMS)))


def other_processor() -> Surroundings:
    """The processor of another machine."""
    return Surroundings(environment=dict(OTHER_PROCESSOR))


@dataclass(frozen=True)
class Tree:
    """Fills the folder `top` with copies of corpora under all kinds of names, and with what is not
    a file.
    """

    top: Path
    corpora: list[Path]
    chance: Random

    def make(self) -> list[str]:
        """Make the folder. Returns what was put there, for the story of the case."""
        chance, story = self.chance, []
        self.top.mkdir()
        for _ in range(chance.randint(1, 6)):
            below = [chance.choice(FOLDERS) for _ in range(chance.randint(0, 2))]
            path = self.top.joinpath(*below, chance.choice(NAMES))
            path.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(path):
                copy = self._copy
                put = chance.choice((copy, copy, copy, self._link, self._link_folder, self._odd))
                put(path)
                story.append(f"{put.__name__} {path.relative_to(self.top)}")
        if chance.random() < 0.1:
            log = self.top / chance.choice(("", "a")) / chance.choice(TABLES)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text('{"add":{"path":"1.parquet"}}\n')
            story.append(f"table {log.relative_to(self.top)}")
        return story

    def _copy(self, path: Path) -> None:
        shutil.copyfile(self.chance.choice(self.corpora), path)

    def _link(self, path: Path) -> None:
        whole = self.chance.random() < 0.7
        path.symlink_to(self.corpora[0] if whole else path.with_name("missing"))

    def _link_folder(self, path: Path) -> None:
        """A link to a folder: beside the corpus, above itself, itself, or one that is gone."""
        beside = self.top.with_name("beside")
        beside.mkdir(exist_ok=True)
        shutil.copyfile(self.corpora[0], beside / "linked.parquet")
        target = self.chance.choice((beside, beside, self.top, path, self.top / "gone"))
        link = path.with_name(self.chance.choice(("linked", "dt=9")))
        if not os.path.lexists(link):
            link.symlink_to(target)

    def _odd(self, path: Path) -> None:
        """A pipe, a device, a folder with a file's name, an empty file."""
        match self.chance.randrange(4):
            case 0:
                os.mkfifo(path)
            case 1:
                path.symlink_to("/dev/zero")
            case 2:
                path.mkdir()
            case 3:
                path.touch()


def reachable_files(top: Path) -> set[str]:
    """Parquet files below a folder that no reader takes for hidden; links are followed."""
    files = set()
    for folder, below, names in os.walk(top, followlinks=True):
        below[:] = [name for name in below if not _is_hidden_folder(name)]
        if Path(folder).resolve() in Path(folder).absolute().parents:
            below[:] = []  # a link to a folder above it, whose files are there already
            continue
        paths = (Path(folder, name) for name in names if not name.startswith((".", "_")))
        files |= {str(path) for path in paths if path.suffix == ".parquet" and path.is_file()}
    return files


def _is_hidden_folder(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)
