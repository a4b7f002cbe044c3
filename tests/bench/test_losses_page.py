"""Loss benchmark: finished rows are not lost, and the page shows their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib import image

from bench.training.losses_page import Machine, Results, Row, Schedule, write_page


def row(loss: str, *, schedule: Schedule = "deferred", seed: int = 1, recipe: str = "a") -> Row:
    """A row whose macro-F1 depends on its name."""
    scores = dict.fromkeys(
        ("micro", "head", "medium", "tail", "single", "multi", "precision", "recall"), 0.5
    )
    others = ("exact_match", "micro_low", "micro_high", "macro_low", "macro_high")
    return Row(
        loss=loss,
        schedule=schedule,
        seed=seed,
        recipe=recipe,
        macro=len(loss) / 100,
        **scores,
        **dict.fromkeys(others, 0.25),
        average_precision=0.9,
        heldout_micro=0.75,
        heldout_macro=0.7,
        minutes=3.5,
        cores=2,
        best_epoch=2,
        articles_per_s=50.0,
        tokens_per_s=5000.0,
    )


def test_results_file_round_trip(tmp_path: Path) -> None:
    """Results read from a file equal those written; a missing file has no rows."""
    results = Results().with_row(row("bce")).with_row(row("db"))
    (tmp_path / "results.json").write_text(results.model_dump_json())

    assert Results.read(tmp_path / "results.json") == results
    assert Results.read(tmp_path / "nothing.json").rows == ()


def test_finished_row_is_found_by_its_key() -> None:
    """The key is schedule, loss, seed and recipe."""
    results = Results().with_row(row("bce"))

    assert results.find("deferred", "bce", 1, "a") == row("bce")
    for key in (
        ("whole", "bce", 1, "a"),
        ("deferred", "db", 1, "a"),
        ("deferred", "bce", 2, "a"),
        ("deferred", "bce", 1, "b"),
    ):
        assert results.find(*key) is None


def test_row_of_a_new_recipe_replaces_the_old_one() -> None:
    """A run has a single row."""
    results = Results().with_row(row("bce")).with_row(row("db"))
    changed = results.with_row(row("bce", recipe="b"))

    assert [row.recipe for row in changed.rows] == ["a", "b"]
    assert [row.loss for row in changed.rows] == ["db", "bce"]


def test_file_has_the_promised_keys() -> None:
    """Other programs read these keys."""
    record = json.loads(Results().with_row(row("bce")).model_dump_json())
    promised = {"loss", "micro", "macro", "head", "medium", "tail", "single", "multi"}

    assert promised | {"minutes", "seed"} <= set(record["rows"][0])


def test_page_has_a_table_for_every_schedule_and_a_chart(tmp_path: Path) -> None:
    """Rows are grouped by schedule, best macro-F1 first, with the published scores."""
    results = Results(
        machine=Machine(cpu="a cpu", cores=2, bf16_peak_gflops=1000, training_mflops_per_token=60)
    )
    for new_row in (row("bce"), row("cb-ntr"), row("db", schedule="whole"), row("bce", seed=2)):
        results = results.with_row(new_row)
    write_page(results, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith(("| bce", "| cb", "| db"))]

    assert [line.split("|")[1].strip() for line in lines] == ["cb-ntr", "bce", "bce", "db"]
    assert "90.74" in lines[0]
    assert "89.14" in lines[1]
    assert "30%" in text
    assert "page-losses.png" in text
    assert image.imread(tmp_path / "page-losses.png").shape[1] > 500


def test_page_without_rows_is_refused(tmp_path: Path) -> None:
    """Without any measurement there is no page."""
    with pytest.raises(ValueError, match="no rows"):
        write_page(Results(), tmp_path / "page.md")
