"""Parquet files of a path in a config: one file, or the files of a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from schemas.errors import DataError

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

TABLE_LOGS = ("_delta_log", ".hoodie", "metadata/version-hint.text")
"""Logs of table formats; the folder of such a table may contain files that were deleted from it."""


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a data set.

    partitions: keys and values of hive folders between the named path and the file.
    """

    path: Path
    partitions: Mapping[str, str | None] = field(default_factory=dict)


def list_files(path: Path) -> list[DataFile]:
    """The file itself, or every `*.parquet` file below a folder, by name.

    A path is never a pattern. Names in a folder that begin with `.` or `_` are left out, except
    partitions such as `_day=1`. Links are followed.
    Raises DataError if the path does not exist, a folder cannot be listed, or it is a table of
    Delta, Iceberg or Hudi.
    """
    if path.is_file():
        return [DataFile(path)]
    if not path.is_dir():
        raise DataError(
            f"{path}: no file or folder of this name",
            hint="paths in a config are relative to the config file; they are not patterns, name "
            "the folder to read all of its files",
        )
    tables = [name for name in TABLE_LOGS if (path / name).exists()]
    if tables:
        raise DataError(
            f"{path}: is a table with a log ({tables[0]}), not a folder of files",
            hint="export one version of the table to Parquet files, and name those",
        )
    files = sorted(_below(path, path, ancestors=()))
    if not files:
        raise DataError(f"{path}: no *.parquet files in this folder", hint="name the file itself")
    return [DataFile(file, _partitions(file.relative_to(path))) for file in files]


def _below(folder: Path, top: Path, ancestors: tuple[Path, ...]) -> list[Path]:
    """Files below a folder; a link back to a folder that contains it is not followed."""
    real = folder.resolve()
    if real in ancestors:
        return []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error
    paths: list[Path] = []
    for entry in entries:
        hidden = entry.name.startswith((".", "_"))
        if entry.is_dir() and (not hidden or "=" in entry.name):
            paths += _below(Path(entry.path), top, (*ancestors, real))
        elif not entry.is_dir() and entry.name.endswith(".parquet") and not hidden:
            paths.append(Path(entry.path))
    return paths


def _partitions(below: Path) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for part in below.parts[:-1]:
        key, equals, value = part.partition("=")
        if equals:
            text = unquote(value)
            values[unquote(key)] = None if text == HIVE_NULL else text
    return values
