"""Systems on real data: what is trained on, what is tested on, and how it is counted."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from seqeval.metrics import f1_score

from bench.paths import CONFIGS, ROOT
from bench.systems import measures
from bench.systems.__main__ import main
from bench.systems.measures import scores_and_deviations
from bench.systems.page import write_page
from bench.systems.protocols import Folds, Protocol, Split
from bench.systems.registry import BY_RESULT, REMARKS, SYSTEMS, WITH_VECTORS
from bench.systems.results import Results, Run, half_width
from bench.systems.system import VECTORS, Result, System
from bench.systems.tables import MEDIUM, also, stories
from schemas.config.files import load_config
from tests.tiny import SAMPLES

CITY = "Ann met Bob in Rome today"


def table(rows: int = 60, **columns: Any) -> pl.DataFrame:
    """Rows with a number, a group of three, and a split."""
    numbers = list(range(rows))
    return pl.DataFrame(
        {
            "number": numbers,
            "article": [f"a{number // 3}" for number in numbers],
            "split": ["train" if number < rows * 3 // 4 else "test" for number in numbers],
            **columns,
        }
    )


@pytest.mark.parametrize("protocol", [Folds(4), Folds(4, "article"), Split("test", rows=20)])
def test_no_row_is_trained_and_tested_on(protocol: Protocol) -> None:
    """In no run, and the same call gives the same rows."""
    tables = {"one": table(), "two": table(30)}
    for run in range(protocol.runs):
        part = protocol.part(tables, run)
        for task in tables:
            train, tested = part.train[task]["number"], part.tested[task]["number"]
            assert len(train)
            assert len(tested)
            assert not set(train) & set(tested)
        again = protocol.part(tables, run)
        assert again.train["one"].equals(part.train["one"])


def test_folds_test_every_row_once_and_divide_no_group() -> None:
    """Neither within a table nor between two of them."""
    protocol = Folds(4, "article")
    tables = {"one": table(), "two": table(30)}
    parts = [protocol.part(tables, run) for run in range(protocol.runs)]

    tested = pl.concat([part.tested["one"] for part in parts])
    assert sorted(tested["number"].to_list()) == list(range(60))
    for part in parts:
        trained = {*part.train["one"]["article"], *part.train["two"]["article"]}
        assert not trained & {*part.tested["one"]["article"], *part.tested["two"]["article"]}


def test_training_rows_may_be_drawn_and_tested_ones_are_not() -> None:
    """At most so many of each group, or of each table; the same ones each time."""
    every = Folds(4, "article").part({"one": table()}, 0)
    for limited, groups, rows in (
        (Folds(4, "article", rows_a_group=2), every.train["one"]["article"].n_unique(), 2),
        (Folds(4, "article", rows=7), 1, 7),
    ):
        part = limited.part({"one": table()}, 0)
        assert len(part.train["one"]) == groups * rows
        assert set(part.train["one"]["number"]) < set(every.train["one"]["number"])
        assert part.tested["one"].equals(every.tested["one"])
        assert limited.part({"one": table()}, 0).train["one"].equals(part.train["one"])
    with pytest.raises(ValueError, match="needs a group"):
        Folds(rows_a_group=2)


def test_draws_differ_and_leave_the_test_part_alone() -> None:
    """Each run has another draw of the training part; what is kept is trained on one, too."""
    protocol = Split("test", rows=20)
    tables = {"one": table()}
    draws = [protocol.part(tables, run).train["one"]["number"].to_list() for run in range(3)]

    assert len({tuple(draw) for draw in draws}) == 3
    assert all(len(draw) == 20 and max(draw) < 45 for draw in draws)
    assert max(protocol.everything(tables)["one"]["number"]) < 45


def all_rows(rows: pl.DataFrame) -> np.ndarray:
    """Numbers of the rows."""
    return np.arange(len(rows), dtype=np.int64)


def test_narratives_are_counted_as_the_official_scorer_does() -> None:
    """F1 of a document's label sets, averaged; "Other" where nothing is decided."""
    rows = pl.DataFrame(
        {
            "gold_labels": [["A", "B"], ["Other"], ["A"]],
            "gold_labels_fine": [["A: x", "B: Other"], ["Other"], ["A: x", "A: y"]],
            "labels": [["A", "A: x"], [], ["A", "A: x", "A: z", "B"]],
        }
    )
    scores = measures.narratives(rows)(all_rows(rows))

    assert scores["samples_f1_coarse"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    # the third document has x, z and, for B without a fine one, "B: Other"
    assert scores["samples_f1_fine"] == pytest.approx((2 / 3 + 1 + 2 / 5) / 3)


def test_roles_are_matched_as_sets() -> None:
    """A mention without a fine role gets the most probable one, and the main role of its own."""

    def chances(**values: float) -> list[dict[str, Any]]:
        return [{"key": name, "value": value} for name, value in values.items()]

    rows = pl.DataFrame(
        {
            "gold_labels": [["Spy"], ["Martyr"], ["Spy", "Rebel"]],
            "gold_main_role": ["Bad", "Good", "Bad"],
            "labels": [["Bad", "Spy"], [], ["Bad", "Spy"]],
            "probabilities": [
                chances(Bad=0.9, Good=0.1, Spy=0.8, Martyr=0.1, Rebel=0.1),
                chances(Bad=0.2, Good=0.3, Spy=0.1, Martyr=0.3, Rebel=0.2),
                chances(Bad=0.4, Good=0.6, Spy=0.4, Martyr=0.1, Rebel=0.6),
            ],
        }
    )
    main_of = {"Spy": "Bad", "Martyr": "Good", "Rebel": "Bad"}
    scores = measures.roles(main_of)(rows)(all_rows(rows))
    flat = rows.with_columns(
        labels=pl.col("labels").list.set_difference(pl.lit(["Bad"])),
        probabilities=pl.col("probabilities").list.tail(3),
    )
    of_flat = measures.roles(main_of)(flat)(all_rows(flat))

    assert scores["exact_match"] == pytest.approx(2 / 3)
    assert scores["micro_precision"] == 1.0
    assert scores["micro_recall"] == pytest.approx(3 / 4)
    assert scores["main_role_accuracy"] == pytest.approx(2 / 3)
    assert of_flat["exact_match"] == scores["exact_match"]
    assert of_flat["main_role_accuracy"] == 1.0  # Spy, Martyr and Rebel are the most probable


def test_spans_are_counted_as_seqeval_does() -> None:
    """A span counts where its ends and its label are right."""
    gold = [["B-PER", "O", "B-PER", "O", "B-LOC", "O"], ["O", "O", "O", "O", "B-LOC", "O"]]
    decided = [["B-PER", "O", "B-LOC", "O", "B-LOC", "O"], ["B-PER", "O", "O", "O", "O", "O"]]

    def spans(tags: list[str]) -> list[dict[str, Any]]:
        starts = [0, 4, 8, 12, 15, 20]
        return [
            {"start": start, "end": start + len(word), "label": tag[2:]}
            for tag, start, word in zip(tags, starts, CITY.split(), strict=True)
            if tag != "O"
        ]

    rows = pl.DataFrame(
        {"gold_entities": [spans(row) for row in gold], "entities": [spans(row) for row in decided]}
    )
    scores = measures.spans(rows)(all_rows(rows))

    assert scores["span_f1"] == pytest.approx(f1_score(gold, decided))
    assert scores["macro_span_f1"] == pytest.approx(f1_score(gold, decided, average="macro"))


def run(system: str, number: int, value: float, *, same_tests: bool) -> Run:
    """A run with one metric that other test rows would move by 0.02."""
    return Run(
        system=system,
        data="d",
        run=number,
        scores={"accuracy": value},
        deviations={"accuracy": 0.02},
        same_tests=same_tests,
        tested=100,
        minutes=1.0,
    )


def test_a_probe_finds_what_vectors_tell() -> None:
    """Where they say nothing it is right about as often as the most frequent value, and rare values
    are left out.
    """
    publishers = ["a"] * 60 + ["b"] * 40 + ["rare"] * 5
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(publishers), 4)).astype(np.float32)
    telling = noise + 8 * np.array([[name == "a"] for name in publishers])

    def scores(vectors: np.ndarray) -> dict[str, float]:
        rows = pl.DataFrame({"gold_publisher": publishers}).with_columns(
            embedding=pl.Series(vectors.astype(np.float32), dtype=pl.Array(pl.Float32, 4))
        )
        score = measures.probe("publisher")(rows)
        return dict(score(np.arange(len(publishers), dtype=np.int64)))

    assert scores(telling) == {"publisher_accuracy": 1.0, "publisher_majority": 0.6}
    assert 0.4 < scores(noise)["publisher_accuracy"] < 0.75


def test_intervals_hold_what_can_differ() -> None:
    """Folds differ by their test rows, too; seeds on the same rows do not, nor does one run."""
    folds = [run("s", number, value, same_tests=False) for number, value in enumerate([0.8, 0.9])]
    seeds = [run("s", number, value, same_tests=True) for number, value in enumerate([0.8, 0.9])]

    assert half_width("accuracy", folds) == pytest.approx(12.71 * 0.05)
    assert half_width("accuracy", seeds) == pytest.approx(np.hypot(12.71 * 0.05, 1.96 * 0.02))
    assert half_width("accuracy", folds[:1]) == pytest.approx(1.96 * 0.02)


def test_bootstrap_is_that_of_the_rows() -> None:
    """The deviation of a share is about that of the binomial distribution."""
    hits = np.random.default_rng(1).random(400) < 0.8

    scores, deviations = scores_and_deviations(
        lambda rows: {"accuracy": float(hits[rows].mean())}, len(hits)
    )

    assert scores["accuracy"] == pytest.approx(hits.mean())
    assert deviations["accuracy"] == pytest.approx(0.02, abs=0.005)


def test_every_system_has_a_config_that_loads() -> None:
    """Each task that is reported is in its config."""
    for system in SYSTEMS:
        if isinstance(system, System):
            config = load_config(CONFIGS / system.config, system.settings)
            assert {result.task for result in system.results} <= set(config.tasks)
    assert set(BY_RESULT) == {name for system in SYSTEMS for name in system.result_names}
    assert len({system.name for system in SYSTEMS}) == len(SYSTEMS)  # each has a folder of its own


def test_the_page_has_every_system_measured_or_not(tmp_path: Path) -> None:
    """With the mean and the interval of each metric."""
    results = Results().with_runs(
        [run("babe", number, 0.7 + number / 100, same_tests=False) for number in range(3)], {}
    )
    renamed = results.model_copy(
        update={"rows": tuple(row.model_copy(update={"data": "babe"}) for row in results.rows)}
    )
    write_page(renamed, tmp_path / "systems.md")
    text = (tmp_path / "systems.md").read_text(encoding="utf-8")

    missing = text.partition("## Not measured yet\n")[2]
    assert missing.count("\n- `") == len(SYSTEMS) - 1
    assert "`babe`" not in missing
    assert set(BY_RESULT) >= {"transfer", "leaning", "reuters"}
    assert "| babe, babe | `accuracy` | 0.71 | 0.685 to 0.735 | 3 | 1.0 |" in text


def test_what_is_tested_by_domain_is_one_table(tmp_path: Path) -> None:
    """A line for each domain that is trained on and tested on, by tuned and by fixed thresholds."""
    scores = {
        f"{metric}_{facet}{threshold}": 0.5
        for metric in ("micro_f1", "macro_f1", "exact_match")
        for facet in ("all", "CC")
        for threshold in ("", "_at_0.25")
    }
    runs = [
        Run(
            system="transfer",
            data=f"semeval-en, {variant}, {task}",
            run=0,
            scores=scores,
            deviations=dict.fromkeys(scores, 0.3),
            same_tests=False,
            tested=10,
            minutes=2.0,
        )
        for variant in ("CC", "UA")
        for task in ("narratives", "roles")
    ]
    write_page(Results().with_runs(runs, REMARKS), tmp_path / "systems.md")
    section = (tmp_path / "systems.md").read_text(encoding="utf-8").split("## ")[1]

    assert section.startswith("Narratives and roles across domains\n")
    assert section.count("\n| narratives | CC | ") == section.count("\n| roles | UA | ") == 4
    assert "| roles | UA | all | tuned | 0.500 (0.00 to 1.00) |" in section  # shares end at 0 and 1
    assert "micro f1 .229 (RoBERTa-base, CC to both) is published" in section


def answered(rows: pl.DataFrame) -> measures.ScoreRows:
    """Share of the rows with a label."""
    has_label = rows["label"].is_not_null().to_numpy()
    return lambda chosen: {"share": float(has_label[chosen].mean())}


def test_a_system_goes_from_rows_to_numbers(tmp_path: Path, encoder: Path) -> None:
    """Through the three commands; a run leaves its numbers, and a picture if there is to be one."""
    config = tmp_path / "stance.toml"
    config.write_text(
        f"""schema_version = 1
[encoder]
source = "{encoder}"
max_tokens = 32
[train]
epochs = 1
epoch_steps = 1
precision = "fp32"
[tasks.stance]
kind = "multiclass"
[[tasks.stance.data]]
path = "somewhere.parquet"
labels_column = "stance"
""",
        encoding="utf-8",
    )
    system = System(
        "Stance of the samples",
        str(config),
        partial(
            also,
            read=lambda data: {"stance": pl.read_parquet(data / "train.parquet")[:120]},
            tasks=(VECTORS,),
        ),
        Folds(2),
        (
            Result("stance", "stance", measures.classes("stance")),
            Result("answered", "stance", answered),
            Result("answered", "stance", answered, decision="never sure"),
        ),
        WITH_VECTORS,
        pictured="stance",
        decisions={"never sure": ("stance.least_probability=0.99",)},
    )
    runs = system.measure(SAMPLES, 0, tmp_path / "run-0", (), tmp_path / "pages")
    Results().with_runs(runs, REMARKS).write(tmp_path / "systems.json")
    measured, sure, unsure = runs

    assert 0 < measured.scores["accuracy"] <= 1
    assert (sure.scores["share"], unsure.scores["share"]) == (1, 0)  # the same model
    assert (sure.data, unsure.data) == (system.data, f"{system.data}, never sure")
    assert not (tmp_path / "run-0").exists()
    assert (tmp_path / "pages" / system.picture).read_bytes().startswith(b"\x89PNG")
    results = Results.read(tmp_path / "systems.json")
    assert results.has("stance", system.data, 0)
    assert not results.has("stance", system.data, 1)


def test_medium_topics_have_a_score_of_their_own() -> None:
    """The mean over the topics that the column names, beside that of all."""
    rows = pl.DataFrame(
        {
            "gold_labels": [["oil", "tin"], ["oil"], ["tea"]],
            "gold_labels_medium": [["tin"], [], ["tea"]],
            "labels": [["oil", "tin"], ["oil"], ["oil"]],
        }
    )
    count = measures.topics(("oil", "tin", "tea"), "labels_medium")
    scores = count(rows)(np.arange(3))

    assert scores["macro_f1_medium"] == pytest.approx((1 + 0) / 2)
    assert scores["macro_f1"] == pytest.approx((0.8 + 1 + 0) / 3)


def test_medium_topics_are_those_of_some_training_stories(tmp_path: Path) -> None:
    """Not of too few or too many, and test stories do not count."""
    labels = [["oil"]] * 40 + [["tin", "oil"]] * 9 + [["tea"]] * 8 + [["tea", "tin"]]
    split = ["train"] * 57 + ["test"]
    (tmp_path / "reuters21578").mkdir()
    rows = pl.DataFrame({"text": ["x"] * 58, "labels": labels, "split": split})
    rows.write_parquet(tmp_path / "reuters21578" / "reuters21578.parquet")
    medium = stories(tmp_path)["topics"][MEDIUM].to_list()

    assert medium == [[]] * 40 + [["tin"]] * 9 + [[]] * 8 + [["tin"]]


def test_systems_are_listed() -> None:
    """By the names that `make system-NAME` takes."""
    listed = CliRunner().invoke(main, ["list"]).output

    assert {line.split()[0] for line in listed.splitlines()} == set(BY_RESULT)
    assert "system-%:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert (
        tomllib.loads((CONFIGS / "trec6.toml").read_text(encoding="utf-8"))["schema_version"] == 1
    )
