"""What the table of losses promises: finished rows stay, and the page shows what is in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib import image

from bench.training.losses_page import Machine, Results, Row, Schedule, write_page


def row(loss: str, *, schedule: Schedule = "deferred", seed: int = 1, recipe: str = "a") -> Row:
    """A row whose numbers are told apart by its name."""
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


def test_results_survive_their_file(tmp_path: Path) -> None:
    """What is written is read again, and a missing file is no row."""
    results = Results().with_row(row("bce")).with_row(row("db"))
    (tmp_path / "results.json").write_text(results.model_dump_json())

    assert Results.read(tmp_path / "results.json") == results
    assert Results.read(tmp_path / "nothing.json").rows == ()


def test_finished_row_is_found_by_what_it_was() -> None:
    """A row counts for its own schedule, loss, seed and recipe alone."""
    results = Results().with_row(row("bce"))

    assert results.find("deferred", "bce", 1, "a") == row("bce")
    for wanted in (
        ("whole", "bce", 1, "a"),
        ("deferred", "db", 1, "a"),
        ("deferred", "bce", 2, "a"),
        ("deferred", "bce", 1, "b"),
    ):
        assert results.find(*wanted) is None


def test_row_of_a_new_recipe_replaces_the_old_one() -> None:
    """One run has one row."""
    results = Results().with_row(row("bce")).with_row(row("db"))
    changed = results.with_row(row("bce", recipe="b"))

    assert [each.recipe for each in changed.rows] == ["a", "b"]
    assert [each.loss for each in changed.rows] == ["db", "bce"]


def test_file_has_the_promised_keys() -> None:
    """Other programs read these keys."""
    stored = json.loads(Results().with_row(row("bce")).model_dump_json())
    promised = {"loss", "micro", "macro", "head", "medium", "tail", "single", "multi"}

    assert promised | {"minutes", "seed"} <= set(stored["rows"][0])


def test_page_has_a_table_for_each_schedule_and_a_picture(tmp_path: Path) -> None:
    """Rows stand under their schedule, the best macro-F1 first, beside what is published."""
    results = Results(
        machine=Machine(cpu="a cpu", cores=2, bf16_peak_gflops=1000, training_mflops_a_token=60)
    )
    for each in (row("bce"), row("cb-ntr"), row("db", schedule="whole"), row("bce", seed=2)):
        results = results.with_row(each)
    write_page(results, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith(("| bce", "| cb", "| db"))]

    assert [line.split("|")[1].strip() for line in lines] == ["cb-ntr", "bce", "bce", "db"]
    assert "90.74" in lines[0]
    assert "89.14" in lines[1]
    assert "30%" in text
    assert "page-losses.png" in text
    assert image.imread(tmp_path / "page-losses.png").shape[1] > 500


def test_page_without_a_row_is_refused(tmp_path: Path) -> None:
    """Nothing measured is nothing to show."""
    with pytest.raises(ValueError, match="no row"):
        write_page(Results(), tmp_path / "page.md")
