"""What reading, splitting and tokenizing a task's data promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer

from schemas.config.models import TrainingRun
from schemas.errors import DataError
from schemas.text.tokens import TextTokenizer
from trainer.data.dataset import load_fold_tests, load_tasks
from trainer.data.task_data import FoldTest, TaskData

Row: TypeAlias = dict[str, Any]
MakeRun: TypeAlias = Callable[..., TrainingRun]


@pytest.fixture
def ours(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer apart from the shared one."""
    return Tokenizer.from_str(tokenizer.to_str())


def load(run: TrainingRun, tokenizer: Tokenizer) -> TaskData:
    """Load the one task of `config_file`."""
    text_tokenizer = TextTokenizer(tokenizer, max_tokens=run.encoder.max_tokens)
    return load_tasks(run, text_tokenizer)["topics"]


def write(path: Path, rows: list[Row]) -> None:
    """Replace the corpus."""
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)


def heldout_texts(data: TaskData) -> list[str]:
    """The texts behind the validation rows."""
    return [article.text or "" for article in data.heldout.articles]


def test_every_row_is_trained_on_or_held_out(make_run: MakeRun, ours: Tokenizer) -> None:
    """The share is kept, and no row is lost or doubled."""
    data = load(make_run(), ours)

    assert 10 <= len(data.validation) == len(data.heldout) <= 14
    assert len(data.train) + len(data.validation) == 48
    assert data.train.labels.shape == (len(data.train), 3)
    assert data.validation.labels.shape == (len(data.validation), 3)


def test_labels_are_those_of_the_data_most_frequent_first(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Without a list in the config, labels are ordered by how often they occur."""
    write(corpus, rows + [row for row in rows if row["labels"] == ["ships"]])

    labels = load(make_run(), ours).labels
    assert labels[0] == "ships"
    assert sorted(labels) == ["grain", "oil", "ships"]


def test_listed_labels_keep_their_order(make_run: MakeRun, ours: Tokenizer) -> None:
    """Column i is label i of the config."""
    run = make_run('tasks.topics.labels=["ships", "grain", "oil"]')
    data = load(run, ours)

    assert data.labels == ("ships", "grain", "oil")
    found = [
        [data.labels[column] for column in np.flatnonzero(row)] for row in data.validation.labels
    ]
    assert [set(names) for names in found] == [set(names) for names in data.heldout.gold]


def test_positives_count_training_rows(make_run: MakeRun, ours: Tokenizer) -> None:
    """Counts for the loss are of training rows only."""
    data = load(make_run(), ours)

    assert data.positives == tuple(data.train.labels.sum(axis=0).tolist())


def test_same_seed_splits_alike(make_run: MakeRun, ours: Tokenizer) -> None:
    """The same config gives the same rows and the same fingerprint; another seed another split."""
    first, again, other = (load(make_run(f"seed={seed}"), ours) for seed in (1, 1, 2))

    assert first.sha256() == again.sha256() != other.sha256()
    assert heldout_texts(first) == heldout_texts(again) != heldout_texts(other)


def test_listed_label_without_a_training_row_is_an_error(
    make_run: MakeRun, ours: Tokenizer
) -> None:
    """A column that nothing could teach is refused, and the label is named."""
    run = make_run('tasks.topics.labels=["grain", "oil", "ships", "gold"]')

    with pytest.raises(DataError, match="1 labels without any training row: 'gold'"):
        load(run, ours)


def test_label_seen_in_validation_only_is_an_error(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """A label that only validation rows have does not become a silent column."""
    split = [{**row, "split": "train"} for row in rows]
    split[5] = {**split[5], "split": "dev", "labels": ["gold"]}
    write(corpus, split)

    with pytest.raises(DataError, match="without any training row: 'gold'"):
        load(make_run("tasks.topics.data.0.validation_value=dev"), ours)


def test_unknown_label_is_an_error(make_run: MakeRun, corpus: Path, ours: Tokenizer) -> None:
    """A label that the task does not list is reported with its row and the nearest label."""
    run = make_run('tasks.topics.labels=["grain", "oil", "ship"]')

    with pytest.raises(DataError, match=r"row 2: unknown label 'ships'") as caught:
        load(run, ours)
    assert str(corpus) in caught.value.message
    assert caught.value.hint == "did you mean 'ship'?"


def test_unknown_label_can_be_ignored(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """`ignore` drops other labels, and rows that have no other; rows without any label stay."""
    write(corpus, [*rows, {**rows[0], "text": "Nothing in particular.", "labels": []}])
    run = make_run(
        'tasks.topics.labels=["grain", "oil"]', "tasks.topics.data.0.other_labels=ignore"
    )
    data = load(run, ours)

    only_ships = sum(row["labels"] == ["ships"] for row in rows)
    assert len(data.train) + len(data.validation) == len(rows) - only_ships + 1
    assert not any("ships" in names for names in data.heldout.gold)


def test_rows_without_text_are_left_out(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Null, empty and blank texts are no rows, and their labels do not count."""
    blank = [{**rows[0], "text": text, "labels": ["gold"]} for text in (None, "", " \n ")]
    write(corpus, rows[:20] + blank + rows[20:])
    data = load(make_run(), ours)

    assert len(data.train) + len(data.validation) == 48
    assert "gold" not in data.labels


def test_groups_do_not_straddle(make_run: MakeRun, rows: list[Row], ours: Tokenizer) -> None:
    """Rows of one article are all trained on, or all held out."""
    data = load(make_run("tasks.topics.data.0.group_column=article"), ours)
    held = set(heldout_texts(data))

    groups_held = {row["article"] for row in rows if row["text"] in held}
    groups_trained = {row["article"] for row in rows if row["text"] not in held}
    assert groups_held
    assert not groups_held & groups_trained


def test_rows_of_the_same_text_do_not_straddle(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Repeats of a row, whatever their labels, are all trained on, or all held out."""
    repeats = [{**row, "labels": ["oil"]} for row in rows] * 2
    write(corpus, rows + repeats)
    data = load(make_run("encoder.max_tokens=120"), ours)
    trained, held = (
        {text.ids.tobytes() for text in part.texts} for part in (data.train, data.validation)
    )

    assert len(data.train) + len(data.validation) == 3 * len(rows)
    assert len(trained) + len(held) == len(rows)
    assert not trained & held


def test_groups_that_share_a_text_do_not_straddle(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Articles linked by a repeated text, also over a third one, are one group."""
    chains = [
        {**row, "text": f"{row['text']} {copy}.", "article": f"{link} of {at // 3}"}
        for at, row in enumerate(rows)
        for copy, link in ((at, "a"), ("same", "a"), ("same", "b"))
    ]
    write(corpus, chains)
    data = load(make_run("tasks.topics.data.0.group_column=article"), ours)
    chain_of = {row["text"]: row["article"].split(" of ")[1] for row in chains}
    rows_held = Counter(chain_of[text] for text in heldout_texts(data))

    assert set(rows_held.values()) == {9}


def test_other_title_or_other_span_is_another_text(
    make_run: MakeRun, corpus: Path, ours: Tokenizer
) -> None:
    """What counts is the text that the model sees."""
    same = {"text": "Acme sued Beta.", "labels": ["x"]}
    titled = [{**same, "title": f"Day {day}"} for day in range(12)]
    write(corpus, titled)
    data = load(make_run(), ours)

    assert len(data.validation) == 3
    with pytest.raises(DataError, match="too few"):
        load(make_run("tasks.topics.title=false"), ours)


def test_no_training_text_is_held_out(make_run: MakeRun, rows: list[Row], ours: Tokenizer) -> None:
    """The token ids of training rows and of held-out rows are disjoint."""
    data = load(make_run("encoder.max_tokens=120"), ours)
    trained, held = (
        {text.ids.tobytes() for text in part.texts} for part in (data.train, data.validation)
    )

    assert len(trained) + len(held) == len(rows)
    assert not trained & held


@pytest.mark.parametrize(
    "strange",
    [
        {"text": "A text of the test part.", "labels": ["ships"]},
        {"text": "Another.", "labels": ["never seen in training"]},
        {"text": None, "labels": None},
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_test_part_is_never_read(
    make_run: MakeRun,
    corpus: Path,
    rows: list[Row],
    ours: Tokenizer,
    strange: Row,
    named: bool,
) -> None:
    """Rows of other split values change neither the labels nor the fingerprint of the data."""
    split = [{**row, "split": "dev" if at % 4 == 1 else "train"} for at, row in enumerate(rows)]
    settings = ["tasks.topics.data.0.validation_value=dev"] if named else []
    write(corpus, split)
    without = load(make_run(*settings), ours)
    write(corpus, [row for at in range(48) for row in (split[at], {**strange, "split": "test"})])
    beside = load(make_run(*settings), ours)

    assert beside.labels == without.labels
    assert beside.sha256() == without.sha256()
    assert heldout_texts(beside) == heldout_texts(without)


def test_named_validation_rows_are_the_held_out_ones(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """With a validation value nothing is split off the training rows."""
    write(corpus, [{**row, "split": "dev" if at < 9 else "train"} for at, row in enumerate(rows)])
    data = load(make_run("tasks.topics.data.0.validation_value=dev"), ours)

    assert heldout_texts(data) == [row["text"] for row in rows[:9]]
    assert len(data.train) == 39


def test_fingerprint_changes_with_texts_and_labels(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """One other word, or one other label, is other data."""
    found = {load(make_run(), ours).sha256()}
    for change in ({"text": "The wheat"}, {"labels": ["oil"]}):
        write(corpus, [{**rows[0], **change}, *rows[1:]])
        found.add(load(make_run(), ours).sha256())

    assert len(found) == 3


def test_several_data_sets_make_one_task(
    make_run: MakeRun, tmp_path: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Data sets follow one another, each split by itself, and share their labels."""
    extra = [{**row, "labels": ["gold"], "text": f"Gold. {row['text']}"} for row in rows[:8]]
    write(tmp_path / "more.parquet", extra)
    sets = '[{path = "corpus.parquet", validation_share = 0.25}, {path = "more.parquet", '
    run = make_run(f"tasks.topics.data={sets} validation_share = 0.25}}]")
    data = load(run, ours)

    assert set(data.labels) == {"grain", "oil", "ships", "gold"}
    assert len(data.train) + len(data.validation) == 48 + 8
    assert 0 < data.positives[data.labels.index("gold")] < 8


@pytest.mark.parametrize(
    ("rows_left", "message"),
    [
        ([], "no rows to train on; 0 were read"),
        ([{"text": " ", "labels": ["oil"]}], "no rows to train on; 1 were read"),
        ([{"text": "Alone.", "labels": ["oil"]}], "too few"),
        ([{"text": "a", "labels": ["x"]}, {"text": "b", "labels": ["y"]}], "too few"),
        ([{"text": f"row {n}", "labels": []} for n in range(9)], "no row has a label"),
        ([{"text": f"row {n}", "labels": [" "]} for n in range(9)], "a label is blank"),
    ],
)
def test_data_that_cannot_be_trained_on_is_reported(
    make_run: MakeRun, corpus: Path, ours: Tokenizer, rows_left: list[Row], message: str
) -> None:
    """No rows, too few, no labels, and blank labels are errors with the file's name."""
    schema = pl.Schema({"text": pl.String(), "labels": pl.List(pl.String())})
    pl.DataFrame(rows_left, schema=schema).write_parquet(corpus)

    with pytest.raises(DataError, match=message) as caught:
        load(make_run(), ours)
    assert "corpus.parquet" in str(caught.value) or "topics" in str(caught.value)


def test_validation_part_without_text_is_reported(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Validation rows that are all blank leave nothing to find thresholds on."""
    blank = [{**row, "split": "dev", "text": " "} for row in rows[:5]]
    write(corpus, blank + [{**row, "split": "train"} for row in rows])

    with pytest.raises(DataError, match="no rows to validate on; 5 were read"):
        load(make_run("tasks.topics.data.0.validation_value=dev"), ours)


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ({"entity": "Acme", "start": 40, "end": 44}, "lie outside the text"),
        ({"entity": "Acme", "start": 4, "end": 0}, "inverted or empty"),
        ({"entity": "Beta", "start": 0, "end": 4}, "not the entity 'Beta'"),
    ],
)
def test_wrong_span_is_reported_with_its_row(
    make_run: MakeRun, corpus: Path, ours: Tokenizer, span: dict[str, Any], reason: str
) -> None:
    """A span that does not fit is an error with the file, the row and the text."""
    right = {"text": "Acme fell", "labels": ["x"], "entity": "Acme", "start": 0, "end": 4}
    write(corpus, [right] * 7 + [{**right, **span}] + [right] * 7)
    run = make_run("tasks.topics.entity_markers=true")

    with pytest.raises(DataError, match=reason) as caught:
        load(run, ours)
    assert "corpus.parquet" in caught.value.message
    assert "'Acme fell'" in caught.value.message


def test_labels_that_look_alike_are_refused(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Also where a data set names one spelling for training and the other for validation."""
    spellings = [{**rows[0], "labels": [label]} for label in ("\u00e9conomie", "e\u0301conomie")]
    write(corpus, [*rows, *spellings])

    with pytest.raises(DataError, match=r"row 48\) and .* U\+00E9 against U\+0065 U\+0301"):
        load(make_run(), ours)

    parts = [{**row, "split": "train"} for row in [*rows, spellings[0]]]
    write(corpus, [*parts, {**rows[1], "split": "dev"}, {**spellings[1], "split": "dev"}])

    with pytest.raises(DataError, match="look alike"):
        load(make_run("tasks.topics.data.0.validation_value=dev"), ours)


def test_label_that_looks_like_a_listed_one_is_refused(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Also where labels that the config does not list are ignored: it is not another label."""
    write(corpus, [*rows, {**rows[0], "labels": ["Grain "]}])
    listed = 'tasks.topics.labels=["ships", "grain", "oil"]'

    with pytest.raises(DataError, match=r"'grain' .* and 'Grain '"):
        load(make_run(listed, "tasks.topics.data.0.other_labels=ignore"), ours)


@pytest.mark.parametrize(
    "listed", [["aid, war", "aid", "war"], ['["aid", "war"]', '["aid"]', "[]"]]
)
def test_lists_written_as_text_are_refused(
    make_run: MakeRun, corpus: Path, ours: Tokenizer, listed: list[str]
) -> None:
    """Before the rows are split, in a column of strings as in one of lists."""
    rows = [{"text": f"Text {number}", "labels": listed[number % 3]} for number in range(30)]
    for given in (rows, [{**row, "labels": [row["labels"]]} for row in rows]):
        write(corpus, given)

        with pytest.raises(DataError, match="lists written as text"):
            load(make_run(), ours)


def test_label_with_a_comma_is_trained_with_a_warning(
    make_run: MakeRun, corpus: Path, ours: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """A narrative may have a comma."""
    sentence = "Blaming the war on others, not the aggressor"
    rows = [{"text": f"Text {n}", "labels": [sentence if n % 2 else "oil"]} for n in range(30)]
    write(corpus, rows)

    assert set(load(make_run(), ours).labels) == {sentence, "oil"}
    assert f"{corpus}: 1 labels contain a separator" in caplog.text


def test_unlabelled_rows_are_in_no_part(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Null is the same in training, in validation and in the rows that a fold is tested on."""
    unlabelled = [
        {**row, "text": f"unlabelled {at}", "labels": None} for at, row in enumerate(rows)
    ]
    write(corpus, [row for pair in zip(rows, unlabelled, strict=True) for row in pair])
    data = load(make_run(), ours)
    run = make_run(*fold(1))
    tokenizer = TextTokenizer(ours, max_tokens=24)
    (test,) = load_fold_tests(run, {"topics": data.labels}, tokenizer).values()
    tested = test.labelled.articles

    assert len(data.train) + len(data.validation) == 48
    assert tested
    assert not any("unlabelled" in (article.text or "") for article in tested)


def fold(index: int, folds: int = 4) -> tuple[str, str]:
    """Settings of one fold."""
    return f"fold.index={index}", f"fold.of={folds}"


def load_both(make_run: MakeRun, tokenizer: Tokenizer, *settings: str) -> tuple[TaskData, FoldTest]:
    """What a fold trains on, and what it is tested on."""
    run = make_run("encoder.max_tokens=120", *settings)
    data = load(run, tokenizer)
    text_tokenizer = TextTokenizer(tokenizer, max_tokens=run.encoder.max_tokens)
    return data, load_fold_tests(run, {"topics": data.labels}, text_tokenizer)["topics"]


def test_folds_are_tested_in_turn(make_run: MakeRun, rows: list[Row], ours: Tokenizer) -> None:
    """Each row is tested in one fold, and trained on or held out in all others."""
    tested: list[str] = []
    for index in range(4):
        data, test = load_both(make_run, ours, *fold(index))
        texts = [article.text or "" for article in test.labelled.articles]
        seen = {text.ids.tobytes() for part in (data.train, data.validation) for text in part.texts}
        assert len(data.train) + len(data.validation) + len(test.rows) == len(rows)
        assert not seen & {text.ids.tobytes() for text in test.rows.texts}
        tested += texts

    assert sorted(tested) == sorted(row["text"] for row in rows)


def test_fold_test_has_the_labels_of_its_rows(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """Columns stand in the order asked for; domains and languages come along."""
    sites = {row["text"]: f"{row['labels'][0]}.example" for row in rows}
    write(corpus, [{**row, "domain": sites[row["text"]], "language": "en"} for row in rows])
    data, test = load_both(make_run, ours, *fold(1))

    gold = {row["text"]: set(row["labels"]) for row in rows}
    for row, article in enumerate(test.labelled.articles):
        names = {data.labels[column] for column in np.flatnonzero(test.rows.labels[row])}
        assert names == gold[article.text or ""]
    assert test.labelled.domains == [sites[each.text or ""] for each in test.labelled.articles]
    assert test.labelled.languages == ["en"] * len(test.rows)


def test_groups_do_not_straddle_folds(make_run: MakeRun, rows: list[Row], ours: Tokenizer) -> None:
    """Rows of one article are tested together."""
    article = {row["text"]: row["article"] for row in rows}
    settings = ("tasks.topics.data.0.group_column=article",)
    found = [
        {
            article[each.text or ""]
            for each in load_both(make_run, ours, *settings, *fold(index))[1].labelled.articles
        }
        for index in range(4)
    ]

    assert sum(map(len, found)) == len(set().union(*found)) == 16


def test_named_validation_rows_are_in_no_fold(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: Tokenizer
) -> None:
    """With a validation value the folds are of training rows, and validation stays as it is."""
    write(corpus, [{**row, "split": "dev" if at < 9 else "train"} for at, row in enumerate(rows)])
    data, test = load_both(make_run, ours, "tasks.topics.data.0.validation_value=dev", *fold(2))

    assert heldout_texts(data) == [row["text"] for row in rows[:9]]
    assert len(data.train) + len(test.rows) == 39


def test_too_many_folds_are_reported(make_run: MakeRun, corpus: Path, ours: Tokenizer) -> None:
    """More folds than rows is an error with the file's name and a hint."""
    with pytest.raises(DataError, match="cannot be split into 49 folds") as caught:
        load(make_run(*fold(0, folds=49)), ours)
    assert str(corpus) in caught.value.message
    assert caught.value.hint == "more rows, or fewer folds"


def site_task(corpus: Path, more: str = "") -> str:
    """A second task over the same rows, as an override of the config."""
    data_set = f'{{path = "{corpus}", labels_column = "site", validation_share = 0.25}}'
    return f"tasks.site={{data = [{data_set}]{more}}}"


@pytest.mark.parametrize("settings", [(), ("fold.index=1", "fold.of=4")], ids=str)
def test_tasks_of_the_same_rows_hold_out_the_same(
    make_run: MakeRun,
    corpus: Path,
    rows: list[Row],
    ours: Tokenizer,
    settings: tuple[str, ...],
) -> None:
    """Whatever their labels are, no task is trained on a row that is held out for another."""
    write(corpus, [{**row, "site": ["a", "b", "c"][at % 3]} for at, row in enumerate(rows)])
    run = make_run(site_task(corpus), "encoder.max_tokens=120", *settings)
    tokenizer = TextTokenizer(ours, max_tokens=120)
    data = load_tasks(run, tokenizer)
    heldout = [[one.text for one in task.heldout.articles] for task in data.values()]

    assert list(data) == ["topics", "site"]
    assert heldout[0] == heldout[1] != []
    assert [one.ids.tolist() for one in data["topics"].train.texts] == [
        one.ids.tolist() for one in data["site"].train.texts
    ]
    assert data["site"].validation.labels.any(axis=0).all()


@pytest.mark.parametrize("settings", [(), ("fold.index=1", "fold.of=4")], ids=str)
def test_a_reversed_task_follows_the_split_of_the_others(
    make_run: MakeRun,
    corpus: Path,
    rows: list[Row],
    ours: Tokenizer,
    settings: tuple[str, ...],
) -> None:
    """Its labels may be the groups that the others keep together, of which each is on one side."""
    write(corpus, [{**row, "site": f"site {at % 6}"} for at, row in enumerate(rows)])
    grouped = 'tasks.topics.data.0.group_column="site"'
    run = make_run(
        site_task(corpus, ", reversal = 1.0"), grouped, "encoder.max_tokens=120", *settings
    )
    data = load_tasks(run, TextTokenizer(ours, max_tokens=120))
    trained = {text.ids.tobytes() for text in data["topics"].train.texts}
    follows = {
        text.ids.tobytes()
        for part in (data["site"].train, data["site"].validation)
        for text in part.texts
    }

    assert follows == trained
    assert len(data["site"].validation) > 0
    assert data["site"].train.labels.any(axis=0).all()
