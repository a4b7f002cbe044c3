"""Cases with a damaged or unusual corpus."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from tests.robustness.fuzz.cases.case import Case, random_options, scoring_case
from tests.robustness.fuzz.inputs import FuzzInputs
from tests.robustness.fuzz.mutations.files import damage_bytes, parquet_windows
from tests.robustness.fuzz.mutations.folder_tree import FolderTree
from tests.robustness.fuzz.mutations.tables import with_odd_columns, with_odd_values

SUBFOLDERS = (".", ".", ".", "dt=2026-01-01", "status=1", "k=%00%FF", "text=a")


def corpus_bytes(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """A Parquet file with damaged bytes in its footer, its pages or at its end."""
    source = rng.choice(inputs.corpora)
    raw = source.read_bytes()
    path = folder / "corpus.parquet"
    path.write_bytes(damage_bytes(raw, rng, parquet_windows(raw)))
    return scoring_case(inputs, folder, path, f"bytes of {source.name}", *random_options(rng))


def corpus_schema(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """Columns of odd types and names, alone or beside a valid file."""
    return _odd_corpus(inputs, folder, rng, with_odd_columns)


def corpus_values(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """Odd values in columns of valid types."""
    return _odd_corpus(inputs, folder, rng, with_odd_values)


def corpus_tree(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """A folder with links, hidden files, partitions, pipes and tables of a table format."""
    top = folder / "corpus"
    entries = FolderTree(top, inputs.corpora, rng).make()
    pattern = rng.choice(("", "", "", "/*", "/**/*.parquet"))
    options = ("--task", "narrative", "--max-quarantined", "1", "--ignore-unknown-gold")
    case = scoring_case(inputs, folder, f"{top}{pattern}", f"folder tree: {entries}", *options)
    return replace(case, corpus_folder=None if pattern else top)


def _odd_corpus(
    inputs: FuzzInputs, folder: Path, rng: Random, change: Callable[[pa.Table, Random], pa.Table]
) -> Case:
    table = pq.read_table(rng.choice(inputs.corpora)).slice(0, rng.choice((0, 1, 6, 12)))
    path = folder / "corpus" / rng.choice(SUBFOLDERS) / "b.parquet"
    path.parent.mkdir(parents=True)
    odd = change(table, rng)
    compression = rng.choice(("none", "snappy", "zstd", "gzip"))
    pq.write_table(odd, path, compression=compression, row_group_size=rng.choice((1, 4, 100)))
    if rng.random() < 0.3:
        shutil.copyfile(inputs.corpus, path.with_name(rng.choice("ac") + ".parquet"))
    schema = odd.schema.to_string(show_schema_metadata=False)[:600]
    description = f"{change.__name__}: {schema}"
    return scoring_case(inputs, folder, folder / "corpus", description, *random_options(rng))
