"""Learning curves: what is counted, and what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from bench.few.keys import UNCHANGED, KeyDraw, KeyResults, keys_page
from bench.few.methods import tfidf_svm
from bench.few.page import write_page
from bench.few.product import train_and_answer
from bench.few.results import Draw, MethodName, Results
from bench.few.scoring import score_answers
from bench.few.sets import CLASSES, GOLD, LABELS, SETS, TEXT, LabelledSet, load_set
from schemas.kinds.base import Answer, Entity

WORDS = {"grain": "wheat harvest silo", "oil": "crude refinery pump", "ships": "freighter tide"}


def draw(
    method: MethodName, number: int, score: float, *, rows: int = 50, deviation: float = 0.01
) -> Draw:
    """A draw with one score."""
    return Draw(
        data="a",
        rows=rows,
        method=method,
        draw=number,
        scores={"micro_f1": score},
        deviations={"micro_f1": deviation},
        seconds=2.0 * score,
    )


def labelled(kind: str, metrics: tuple[str, ...], gold: list[object]) -> LabelledSet:
    """A set with as many rows as gold values, in which words give labels away."""
    names = list(WORDS)
    texts = [f"{WORDS[names[row % 3]]} {row}" for row in range(len(gold))]
    rows = pl.DataFrame({TEXT: texts, GOLD: gold})
    return LabelledSet("a", kind, metrics, rows, rows[:9], (len(gold),))


def label_lists(count: int) -> LabelledSet:
    """One label a row, in lists."""
    return labelled("multilabel", LABELS, [[list(WORDS)[row % 3]] for row in range(count)])


def single_labels(count: int) -> LabelledSet:
    """One label a row, as text."""
    return labelled("multiclass", CLASSES, [list(WORDS)[row % 3] for row in range(count)])


def spans(count: int) -> LabelledSet:
    """The first word of each row."""
    first = [len(WORDS[list(WORDS)[row % 3]].split()[0]) for row in range(count)]
    gold: list[object] = [[{"start": 0, "end": end, "label": "first"}] for end in first]
    return labelled("token", LABELS, gold)


def test_a_row_is_the_mean_of_its_draws() -> None:
    """The interval covers other draws, by what all methods say of them, and other test rows."""
    draws = [draw("tfidf-svm", 0, 0.4), draw("tfidf-svm", 1, 0.6)]
    draws += [draw("default", 0, 0.6), draw("default", 1, 0.6, deviation=0.03)]
    rows = {row.method: row for row in Results.of_draws(draws).rows}

    deviation = (0.02 / 2) ** 0.5  # of draws: squares 0.02 and 0, one degree of freedom each
    expected: list[tuple[MethodName, float, float]] = [
        ("tfidf-svm", 0.5, 0.01),
        ("default", 0.6, 0.02),
    ]
    for method, mean, of_tests in expected:
        row = rows[method]
        distance = 1.96 * (deviation**2 / 2 + of_tests**2) ** 0.5
        assert (row.mean, row.draws) == (mean, 2)
        assert (row.low, row.high) == pytest.approx((mean - distance, mean + distance), abs=1e-4)
    assert rows["default"].seconds == 1.2


def test_a_draw_is_measured_once(tmp_path: Path) -> None:
    """A draw that is measured again replaces the earlier one, in a file that is read back."""
    found = Results().with_draw(draw("default", 0, 0.4)).with_draw(draw("default", 0, 0.8))
    found.write(tmp_path / "few.json")

    assert Results.read(tmp_path / "few.json") == found
    (row,) = json.loads((tmp_path / "few.json").read_text())["rows"]
    expected = {"data": "a", "rows": 50, "method": "default", "metric": "micro_f1", "mean": 0.8}
    assert expected.items() <= row.items()
    assert not found.without({"default"}, {"a"}).rows


def test_page_marks_the_best_and_a_default_below_it(tmp_path: Path) -> None:
    """The best of a row is bold; a default recipe is italic where noise does not explain it."""
    draws = [draw("tfidf-svm", 0, 0.8), draw("default", 0, 0.7)]
    draws += [draw("tfidf-svm", 0, 0.8, rows=100), draw("default", 0, 0.79, rows=100)]
    write_page(Results.of_draws(draws), tmp_path / "few.md")
    page = (tmp_path / "few.md").read_text()

    assert page.count("**0.800**") == 2
    assert page.count("*0.700*") == 1
    assert "| 0.790 (" in page
    assert "of 1 draws" not in page
    assert (tmp_path / "few.png").stat().st_size > 1000

    write_page(Results.of_draws([*draws, draw("tfidf-svm", 1, 0.8)]), tmp_path / "few.md")
    assert "1 of 2 draws)" in (tmp_path / "few.md").read_text()


@pytest.mark.parametrize(
    ("one", "answers"),
    [
        (label_lists(12), [Answer(labels=(list(WORDS)[row % 3],)) for row in range(9)]),
        (single_labels(12), [Answer(labels=(list(WORDS)[row % 3],)) for row in range(9)]),
        (
            spans(12),
            [Answer(entities=(Entity(0, end, "first", "", 1.0),)) for end in [5, 5, 9] * 3],
        ),
    ],
    ids=["lists", "single", "spans"],
)
def test_right_answers_score_one(one: LabelledSet, answers: list[Answer]) -> None:
    """Of every kind; a wrong one costs what it should."""
    scores, deviations = score_answers(one, answers)
    assert set(scores.values()) == {1.0}
    assert set(deviations.values()) <= {0.0, *deviations.values()}

    wrong, moved = score_answers(one, [*answers[:-3], *answers[:1] * 3])
    assert 0 < min(wrong.values()) < 1
    assert min(moved.values()) > 0


@pytest.mark.parametrize("one", [label_lists(30), single_labels(30)], ids=["lists", "single"])
def test_baseline_finds_words_that_give_labels_away(one: LabelledSet, tmp_path: Path) -> None:
    """TF-IDF with a support vector machine is a rival worth its name."""
    answers, _ = tfidf_svm(one, one.pool, tmp_path)

    assert set(score_answers(one, answers)[0].values()) == {1.0}


@pytest.mark.parametrize("make", [label_lists, single_labels, spans])
def test_product_answers_every_test_row(make: object, encoder: Path, tmp_path: Path) -> None:
    """Whatever the kind, it trains on the rows of a draw and answers those of the test."""
    assert callable(make)
    one: LabelledSet = make(30)
    brief = [f"encoder.source={encoder}", "train.epochs=1", "train.epoch_steps=2"]
    answers, seconds = train_and_answer(one, one.draw(24, 0), tmp_path / "run", brief)

    assert len(answers) == len(one.tested)
    assert seconds > 0


def test_draws_are_of_the_pool_and_differ() -> None:
    """The same number gives the same rows, another one others; no row comes twice."""
    one = label_lists(60)
    first, again, second = (one.draw(20, number) for number in (0, 0, 1))

    assert first.equals(again)
    assert not first.equals(second)
    assert first[TEXT].n_unique() == 20


def test_samples_are_a_set_without_other_data(tmp_path: Path) -> None:
    """Their test articles are those of the demo, and no text is longer than is read."""
    one = load_set("narratives", tmp_path)

    assert (len(one.pool), len(one.tested)) == (600, 240)
    assert one.sizes == (50, 100, 200, 400, 600)
    assert [one.draws(rows) for rows in one.sizes] == [5, 5, 5, 2, 1]
    assert set(SETS) >= {"narratives", "semeval", "rock-news", "trec", "imdb", "reuters", "conll"}


def test_page_of_keys_compares_within_draws() -> None:
    """A change is compared with the default on the same draw; others are left out."""
    scores = {
        (UNCHANGED, "trec", 0): 0.7,
        (UNCHANGED, "trec", 1): 0.9,
        (UNCHANGED, "rock-news", 0): 0.8,
        ("epochs = 16", "trec", 0): 0.72,
        ("epochs = 16", "trec", 1): 0.94,
        ("epochs = 16", "rock-news", 0): 0.77,
        ("epochs = 16", "rock-news", 1): 0.1,
    }
    draws = [
        KeyDraw(change=change, data=data, draw=number, score=score, seconds=10.0)
        for (change, data, number), score in scores.items()
    ]
    page = keys_page(KeyResults(draws=tuple(draws)))

    assert "| `epochs = 16` | +3.0 | -3.0 | +1.0 | 2.1 | 100% |" in page
    assert "epochs = 4" not in page
    assert "0.800 on trec, 0.800 on rock-news" in page
