"""What pictures promise of names from outside."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from trainer.evaluation.pictures import picture_text, save_picture
from trainer.search.report import SearchResult, TrialRecord, draw_search
from trainer.search.space import Choice


@pytest.mark.parametrize(
    "name", ["$x^", "$x$", "a $ and $ b", r"\$", r"$\frac{$", "新聞", "a\nb\x1b[2J", "x" * 5000]
)
def test_every_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    """Dollar signs start no formula, missing letters give no warning, long names are cut."""
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.set_title(picture_text(name))
    axes.plot([1, 2], label=f"{picture_text(name)}, training")
    axes.legend()
    save_picture(figure, tmp_path / "picture.png")

    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_choices_of_a_search_are_drawn_as_they_are(tmp_path: Path) -> None:
    """A choice that holds dollar signs is a tick label, not a formula."""
    trial = TrialRecord(
        folder="trial-1",
        values={"encoder.source": "$a_{"},
        state="finished",
        metric=0.5,
        best_epoch=1,
        epochs=1,
        seconds=1.0,
    )
    result = SearchResult(metric_name="micro_f1", trials=(trial,))
    space = [Choice("encoder.source", ("$a_{", "b$"))]
    draw_search(result, space, tmp_path)

    assert (tmp_path / "search.png").exists()
