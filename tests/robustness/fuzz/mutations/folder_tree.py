"""Corpus folders with unusual entries: links, hidden files, partitions, pipes, other tables."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

FOLDERS = (
    *("a", "b", "dt=2026-01-01", "_late=1", "k=%00%FF", "news-desk=a b"),
    *(".hidden", "_temporary"),
)
NAMES = ("1.parquet", "2.parquet", "part-0000", "3.PARQUET", ".4.parquet", "_SUCCESS", "5.parq")
TABLE_LOGS = (
    "_delta_log/00000000000000000000.json",
    ".hoodie/hoodie.properties",
    "metadata/v1.metadata.json",
)


@dataclass(frozen=True)
class FolderTree:
    """A folder `top` with copies of corpora under unusual names, and entries that are not files."""

    top: Path
    corpora: list[Path]
    rng: Random

    def make(self) -> list[str]:
        """Make the folder. Returns its entries, for the description of the case."""
        rng, entries = self.rng, []
        self.top.mkdir()
        for _ in range(rng.randint(1, 6)):
            folders = [rng.choice(FOLDERS) for _ in range(rng.randint(0, 2))]
            path = self.top.joinpath(*folders, rng.choice(NAMES))
            path.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(path):
                copy = self._copy
                add = rng.choice((copy, copy, copy, self._link, self._link_folder, self._special))
                add(path)
                entries.append(f"{add.__name__} {path.relative_to(self.top)}")
        if rng.random() < 0.1:
            log = self.top / rng.choice(("", "a")) / rng.choice(TABLE_LOGS)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text('{"add":{"path":"1.parquet"}}\n')
            entries.append(f"table {log.relative_to(self.top)}")
        return entries

    def _copy(self, path: Path) -> None:
        shutil.copyfile(self.rng.choice(self.corpora), path)

    def _link(self, path: Path) -> None:
        valid = self.rng.random() < 0.7
        path.symlink_to(self.corpora[0] if valid else path.with_name("missing"))

    def _link_folder(self, path: Path) -> None:
        """Add a link to a folder outside the corpus, to an ancestor, to itself, or to nothing."""
        outside = self.top.with_name("outside")
        outside.mkdir(exist_ok=True)
        shutil.copyfile(self.corpora[0], outside / "linked.parquet")
        target = self.rng.choice((outside, outside, self.top, path, self.top / "missing"))
        link = path.with_name(self.rng.choice(("linked", "dt=9")))
        if not os.path.lexists(link):
            link.symlink_to(target)

    def _special(self, path: Path) -> None:
        """Add a pipe, a device, a folder with the name of a file, or an empty file."""
        match self.rng.randrange(4):
            case 0:
                os.mkfifo(path)
            case 1:
                path.symlink_to("/dev/zero")
            case 2:
                path.mkdir()
            case 3:
                path.touch()


def visible_parquet_files(top: Path) -> set[str]:
    """Parquet files below a folder that are not hidden; links are followed."""
    files = set()
    for folder, subfolders, names in os.walk(top, followlinks=True):
        subfolders[:] = [name for name in subfolders if not _is_hidden_folder(name)]
        if Path(folder).resolve() in Path(folder).absolute().parents:
            subfolders[:] = []  # a link to an ancestor, whose files are listed already
            continue
        paths = (Path(folder, name) for name in names if not name.startswith((".", "_")))
        files |= {str(path) for path in paths if path.suffix == ".parquet" and path.is_file()}
    return files


def _is_hidden_folder(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)
