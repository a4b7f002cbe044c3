"""Predictions of different models are one table, and say which model and which text they are of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from click.testing import Result

from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Command = Callable[..., Result]

TEXTS = ["Aid is wasted by officials.", " ", "Talks now, or war for ever."]


@pytest.fixture
def nights(
    edit_bundle: Callable[..., Path],
    bundle: Path,
    metadata: ArtefactMetadata,
    write: Write,
    score: Score,
    tmp_path: Path,
) -> Path:
    """A folder with the predictions of two models that have other labels, a night each."""
    renamed = [f"new: {label}, {label}" for label in metadata.labels]
    retrained = edit_bundle(props={"labels": renamed})
    folder = tmp_path / "nights"
    folder.mkdir()
    for night, model in (("night=1", bundle), ("night=2", retrained)):
        output = tmp_path / night
        score(write({"text": TEXTS, "title": ["t", None, "u"]}), bundle=model, output=output)
        (output / "predictions").rename(folder / night)
    return folder


def test_every_reader_takes_two_models_for_one_table(
    nights: Path, metadata: ArtefactMetadata
) -> None:
    """polars, DuckDB, pandas and pyarrow read six rows, and the probability of a label by name."""
    pattern, label = str(nights / "*" / "*.parquet"), metadata.labels[0]
    probability = pl.col("probabilities").map.get(label)
    by_polars = pl.read_parquet(pattern).select(probability).to_series().to_list()
    query = f"select probabilities['{label}'] from read_parquet('{pattern}', hive_partitioning = 1)"
    answer = duckdb.connect().execute(f"{query} order by night, source_row")
    by_duckdb = [row[0] for row in answer.fetchall()]
    by_pandas = [
        None if cell is None else dict(cell).get(label)
        for cell in pd.read_parquet(nights)["probabilities"]
    ]
    by_pyarrow = [
        None if cell is None else dict(cell).get(label)
        for cell in ds.dataset(nights).to_table()["probabilities"].to_pylist()
    ]

    assert [value is None for value in by_pyarrow] == [False, True, False, True, True, True]
    assert by_polars == by_duckdb == by_pandas == by_pyarrow


def test_rows_name_their_model_and_their_text(nights: Path, bundle: Path) -> None:
    """The bundle by its short hash, the model text by its sha256; an empty row has no text."""
    first, second = (pl.read_parquet(nights / f"night={night}" / "*.parquet") for night in (1, 2))
    text = f"t\n\n{TEXTS[0]}"

    assert set(first["model"]) == {Bundle.open(bundle).sha256[:12]}
    assert len(set(second["model"])) == 1
    assert set(first["model"]).isdisjoint(second["model"])
    assert first["text_hash"].equals(second["text_hash"])
    assert first["text_hash"][0] == hashlib.sha256(text.encode()).hexdigest()[:32]
    assert first["text_hash"][1] is None


@pytest.mark.parametrize("form", ["struct", "none"])
def test_the_form_of_probabilities_is_part_of_the_run(
    form: str, write: Write, score: Score, batch_classify: Command, tmp_path: Path
) -> None:
    """A struct has the values of the map; a folder is not resumed in another form."""
    corpus, output = write({"text": TEXTS}), tmp_path / "scored"
    plain = score(corpus)
    scored = score(corpus, output=output, probabilities=form)
    refused = batch_classify(corpus, output=output, probabilities="map")

    assert refused.exit_code == 1
    assert f"probabilities: was {form}, is map" in refused.stderr
    assert json.loads((output / "run.json").read_bytes())["config"]["probabilities"] == form
    assert ("probabilities" in scored.column_names) == (form == "struct")
    if form == "struct":
        cells = [cell and dict(cell) for cell in plain["probabilities"].to_pylist()]
        assert scored["probabilities"].to_pylist() == cells
