"""Classification of names in a folder: data files, hidden files, tables, hive partitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from schemas.errors import CorpusError
from schemas.printable import printable

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
SUFFIXES = (".parquet", ".parq", ".pq")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".br", ".zip", ".7z", ".tar", ".tgz", ".snappy")
TABLE_FORMATS = {"_delta_log": "Delta", ".hoodie": "Hudi", "_hudi": "Hudi"}
"""Folders that mark their parent folder as a table, whose log lists the current files."""
ICEBERG_FOLDER, ICEBERG_SUFFIX = "metadata", ".metadata.json"
NO_SUFFIX = "no suffix, and not Parquet inside"
HIDDEN = "hidden: the name starts with _ or ."

Partitions = tuple[tuple[str, str | None], ...]


def is_hidden(name: str) -> bool:
    """True for names that readers of Parquet folders skip; `_key=value` is a Spark partition."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def is_parquet_name(name: str) -> bool:
    """True for a name with a suffix of Parquet files, in lower or upper case."""
    return name.lower().endswith(SUFFIXES)


def reason_to_skip(name: str) -> str | None:
    """Reason why a file of a folder is not read, by its suffix; None for Parquet or no suffix."""
    if is_parquet_name(name) or "." not in name:
        return None
    if name.lower().endswith(COMPRESSED):
        return "compressed as a whole; decompress it first"
    return f"the name does not end in {', '.join(SUFFIXES)}"


def check_no_table(label: str, table_format: str | None) -> None:
    """Refuse a table of a table format. Raises CorpusError."""
    if table_format is not None:
        raise CorpusError(
            f"{label}: is a table in {table_format} format, not a folder of files: its log lists "
            "the current files",
            hint=f"export the table to plain Parquet with a {table_format} reader, or name its "
            "current files one by one",
        )


def table_format_of(names: Iterable[str]) -> str | None:
    """The table format by the names in a folder, if any, except Iceberg, which needs subfolders."""
    return next((TABLE_FORMATS[name] for name in names if name in TABLE_FORMATS), None)


def partitions_of(folders: Sequence[str], label: str) -> Partitions:
    """Hive keys and values of the folders of a path, with escapes decoded.

    Raises CorpusError if one key has two values.
    """
    values: dict[str, str | None] = {}
    for folder in folders:
        key, equals, value = folder.partition("=")
        if not equals or not key:
            continue
        key, text = _unescaped(key), _unescaped(value)
        decoded = None if HIVE_NULL in (value, text) else text
        if key in values and values[key] != decoded:
            raise CorpusError(
                f"{label}: partition key {printable(key)!r} has two values in this path",
                hint="rename one of the two folders",
            )
        values[key] = decoded
    return tuple(values.items())


def _unescaped(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text  # not UTF-8, such as %FF: keep the text as it is
