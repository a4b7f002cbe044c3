"""Ownership of output folders: a command replaces only folders that it created itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from schemas.config.models import TrainingRun
from schemas.errors import NarrascanError, OutputError, listing
from schemas.io.json_values import parse_json
from schemas.io.lock import LOCK_FILE, lock_inside, locked_by
from trainer.model.encoders import source_folder

TRAINING, CROSS_VALIDATION, SEARCH = "training", "cross-validation", "search"


@dataclass(frozen=True)
class FolderLayout:
    """Files that a command writes to its output folder.

    names: pattern of the names at the top level.
    records: JSON files with a key by which the command recognizes its folder, even one of an older
    version that left no lock file.
    """

    what: str
    names: re.Pattern[str]
    records: tuple[tuple[str, str], ...]

    def owns(self, folder: Path) -> bool:
        """True if the command created this folder."""
        if locked_by(folder / LOCK_FILE) == self.what:
            return True
        return any(_has_key(folder / name, key) for name, key in self.records)


LAYOUTS = {
    TRAINING: FolderLayout(
        TRAINING,
        re.compile(
            r"(checkpoint|config|tokenizer|history|reference)\.json|model\.safetensors|curves\.png"
            r"|heldout|sample|references|state"
        ),
        (
            ("checkpoint.json", "config_sha256"),
            ("history.json", "metric_name"),
            ("state/run/run.json", "config_sha256"),
        ),
    ),
    CROSS_VALIDATION: FolderLayout(
        CROSS_VALIDATION,
        re.compile(r"cross-validation\.(json|md)|curves\.png|fold-\d+"),
        (
            ("cross-validation.json", "config_sha256"),
            ("fold-1/checkpoint.json", "config_sha256"),
            ("fold-1/history.json", "metric_name"),
            ("fold-1/state/run/run.json", "config_sha256"),
        ),
    ),
    SEARCH: FolderLayout(
        SEARCH,
        re.compile(r"search\.(json|md|png)|study\.jsonl(\.lock)?|trial-\d+"),
        (("search.json", "metric_name"),),
    ),
}


@contextmanager
def locked(output: Path, what: str) -> Iterator[None]:
    """Lock an output folder for all processes of a run; the main process takes the lock.

    Raises LockedError or OutputError in every process.
    """
    PartialState().wait_for_everyone()  # all have checked the folder before there is a lock file
    with ExitStack() as stack:
        problem: NarrascanError | None = None
        if PartialState().is_main_process:
            try:
                stack.enter_context(lock_inside(output, what))
            except NarrascanError as error:
                problem = error
        (problem,) = broadcast_object_list([problem])
        if problem is not None:
            raise problem
        yield


def refuse_foreign(output: Path, what: str) -> None:
    """Refuse a folder with files that the command did not write. Raises OutputError.

    A folder of other files that have the same names, such as an encoder, is refused, too. Hidden
    files are ignored: no command writes or removes hidden files other than its own.
    """
    layout = LAYOUTS[what]
    if output.is_symlink() and not output.exists():
        raise OutputError(
            f"{output}: is a link to something that does not exist", hint="name another --output"
        )
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file, not a folder", hint="name a folder")
    names = sorted(path.name for path in output.iterdir()) if output.exists() else []
    names = [name for name in names if not name.startswith(".")]
    foreign = [name for name in names if not layout.names.fullmatch(name)]
    if foreign or (names and not layout.owns(output)):
        raise OutputError(
            f"{output}: contains files that are not of a {what} run: {listing(foreign or names)}",
            hint="name an empty or a new folder with --output; --overwrite discards runs of the "
            "same command only",
        )


def refuse_sources(output: Path, configs: Iterable[TrainingRun]) -> None:
    """Refuse an output folder inside or around the inputs of training.

    Inputs are the encoder, the data and `start_from`. Links are followed.
    Raises OutputError that names both paths.
    """
    target = output.resolve()
    for config in configs:
        for key, source in _sources(config):
            path = source.resolve()
            if (
                target == path
                or target in path.parents
                or (path.is_dir() and path in target.parents)
            ):
                raise OutputError(
                    f"{output}: is, is inside or contains {source}, which the config reads ({key})",
                    hint="name a separate folder with --output",
                )


def _sources(config: TrainingRun) -> list[tuple[str, Path]]:
    sources = [
        (f"tasks.{name}.data", data.path)
        for name, task in config.tasks.items()
        for data in task.data
    ]
    encoder = source_folder(config.encoder.source)
    if encoder is not None:
        sources.append(("encoder.source", encoder))
    if config.encoder.start_from is not None:
        sources.append(("encoder.start_from", config.encoder.start_from))
    return sources


def _has_key(path: Path, key: str) -> bool:
    try:
        record = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and key in record
