"""Several tasks in one pass: the encoder runs once, and every task scores as it does alone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import Result

from batch.corpus.tasks import RunTasks
from schemas.errors import UsageError
from schemas.kinds.columns import reserved_columns
from tests.batch.output.test_exactly_once import finished_chunks, running
from tests.batch.output.test_shards import merge
from tests.label_tasks import KIND

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Command = Callable[..., Result]
Contents = Callable[[Path], dict[str, bytes]]

PLAIN = ("roles", "site", "narrative")
"""Tasks of the bundle that read the same text, in its order."""


def column_bits(column: pa.ChunkedArray) -> list[Any]:
    """Values of a column; floats by their bits."""
    if pa.types.is_struct(column.type):
        return [column_bits(pa.chunked_array([one])) for one in column.combine_chunks().flatten()]
    if pa.types.is_float32(column.type):
        return [one.to_numpy(zero_copy_only=False).tobytes() for one in [column.combine_chunks()]]
    values: list[Any] = column.to_pylist()
    return values


@pytest.mark.parametrize("wanted", ["narrative,site", "roles, site,narrative"])
def test_a_task_scores_as_it_does_alone(
    sample: pa.Table, write: Write, score: Score, joint_bundle: Path, wanted: str
) -> None:
    """Labels, probabilities to the last bit, tokens and status, in other chunks and threads too."""
    corpus = write(sample)
    tasks = [task for task in PLAIN if task in wanted]
    options = [{}, {"chunk_rows": 7, "threads": 2}]
    together = [score(corpus, task=wanted, bundle=joint_bundle, **more) for more in options]

    for task in tasks:
        alone = score(corpus, task=task, bundle=joint_bundle)
        for scored in together:
            for name in ("labels", "probabilities"):
                found = column_bits(scored.column(f"{task}_{name}"))
                assert found == column_bits(alone.column(name))
            assert scored.select(["tokens", "status"]).equals(alone.select(["tokens", "status"]))


def test_columns_of_a_joint_run(
    sample: pa.Table, write: Write, score: Score, joint_bundle: Path
) -> None:
    """Input columns, then two for each task in the bundle's order, then what all rows have."""
    scored = score(write(sample), task="narrative,roles", bundle=joint_bundle)
    kept = sample.drop_columns(["text"])

    assert scored.column_names == [
        *kept.column_names,
        *reserved_columns({"roles": KIND, "narrative": KIND}),
    ]
    assert scored.select(kept.column_names).equals(kept)
    assert pa.types.is_list(scored.schema.field("roles_labels").type)
    assert pa.types.is_map(scored.schema.field("narrative_probabilities").type)


def test_run_and_report_name_every_task(
    sample: pa.Table, write: Write, score: Score, joint_bundle: Path, tmp_path: Path
) -> None:
    """run.json has the tasks as --task takes them; the report of each is that of a run of its own,
    in one file, and the page has a part for each.
    """
    corpus, gold = write(sample), "narratives"
    options: dict[str, Any] = {"bundle": joint_bundle}
    score(
        corpus,
        task="narrative,site",
        gold_column=["narrative=narratives", "site=domain"],
        output=tmp_path / "joint",
        **options,
    )
    score(corpus, task="narrative", gold_column=gold, output=tmp_path / "alone", **options)
    record = json.loads((tmp_path / "joint" / "run.json").read_text())
    report = json.loads((tmp_path / "joint" / "report.json").read_text())
    page = (tmp_path / "joint" / "report.html").read_text()

    assert record["task"] == "site,narrative"
    assert record["config"]["gold_column"] == {"narrative": "narratives", "site": "domain"}
    assert report["tasks"]["site"]["gold_column"] == "domain"
    assert list(report["tasks"]) == ["site", "narrative"]
    alone = json.loads((tmp_path / "alone" / "report.json").read_text())
    assert report["tasks"]["narrative"] == alone
    for task in ("site", "narrative"):
        assert f'href="#{task}-top"' in page
        assert f'id="{task}-top"' in page
        assert f'id="{task}-domain-1"' in page
    assert page.count('id="legend"') == page.count("<h1>") == 1
    assert "the columns “domain” (site), “narratives” (narrative)" in page


def test_order_of_the_names_does_not_matter(
    sample: pa.Table, write: Write, batch_classify: Command, joint_bundle: Path, tmp_path: Path
) -> None:
    """The same tasks in another order are the same run, which is complete already."""
    corpus = write(sample)
    first, second = (
        batch_classify(corpus, task=task, bundle=joint_bundle, output=tmp_path / "scored")
        for task in ("site,narrative", "narrative,site")
    )

    assert first.exit_code == second.exit_code == 0, second.output
    assert "already complete" in second.stderr


def test_tasks_that_read_different_texts_are_reported(
    sample: pa.Table, write: Write, batch_classify: Command, joint_bundle: Path, tmp_path: Path
) -> None:
    """Wrong usage, exit 2: which tasks read what, and which runs to make of it; `all` likewise."""
    corpus = write(sample)

    for task in ("all", "narrative,entity_framing"):
        refused = batch_classify(corpus, task=task, bundle=joint_bundle, output=tmp_path / "scored")
        assert refused.exit_code == 2
        assert "read the same text" in refused.stderr
        assert "'entity_framing': body with an entity marked" in refused.stderr
        assert "'narrative': title, '\\n\\n' and body" in refused.stderr
        assert "then --task entity_framing" in refused.stderr
        assert not (tmp_path / "scored").exists()


def test_all_means_every_task(
    sample: pa.Table, write: Write, batch_classify: Command, joint_bundle: Path, tmp_path: Path
) -> None:
    """Where every task of a bundle reads the same text, `all` scores them in one pass."""
    folder = Path(shutil.copytree(joint_bundle, tmp_path / "plain"))
    manifest = json.loads((folder / "bundle.json").read_text())
    del manifest["tasks"]["entity_framing"]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    options: dict[str, Any] = {"dry_run": True, "log_format": "json"}
    result = batch_classify(
        write(sample), task="all", bundle=folder, output=tmp_path / "scored", **options
    )

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["task"] == "roles,site,narrative"


def test_a_bundle_without_a_shared_file_says_so(
    sample: pa.Table, write: Write, batch_classify: Command, joint_bundle: Path, tmp_path: Path
) -> None:
    """Tasks that could share a pass but have no file for it are to be run one at a time."""
    folder = Path(shutil.copytree(joint_bundle, tmp_path / "separate"))
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "shared": []}))
    refused = batch_classify(
        write(sample), task="site,narrative", bundle=folder, output=tmp_path / "scored"
    )

    assert refused.exit_code == 2
    assert "has no file that tasks 'site', 'narrative' share" in refused.stderr
    assert "one task at a time" in refused.stderr


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("narrative,narrative", "one is named twice"),
        ("narrative,sites", "did you mean 'site'?"),
        ("narrative,", "unknown task ''"),
    ],
)
def test_names_that_cannot_be_are_reported(
    sample: pa.Table,
    write: Write,
    batch_classify: Command,
    joint_bundle: Path,
    tmp_path: Path,
    task: str,
    said: str,
) -> None:
    """Exit 2 for a task twice, a misspelt one and none."""
    refused = batch_classify(
        write(sample), task=task, bundle=joint_bundle, output=tmp_path / "scored"
    )

    assert refused.exit_code == 2
    assert said in refused.stderr


@pytest.mark.parametrize(
    ("names", "values", "gold"),
    [
        (("a",), ["labels"], {"a": "labels"}),
        (("a",), ["x=y"], {"a": "x=y"}),
        (("a",), ["a=labels"], {"a": "labels"}),
        (("a", "b"), ["b=x=y"], {"b": "x=y"}),
        (("a", "b"), ["b=x", "a=x"], {"a": "x", "b": "x"}),
        (("a", "b"), [], {}),
    ],
)
def test_gold_columns_are_taken_apart(
    names: tuple[str, ...], values: list[str], gold: dict[str, str]
) -> None:
    """One task needs no name before its column; with several each column has its task."""
    assert RunTasks.parse(dict.fromkeys(names, KIND), values).gold == gold


@pytest.mark.parametrize(
    ("names", "values", "said"),
    [
        (("topics", "roles"), ["labels"], "--gold-column topics=labels"),
        (("topics", "roles"), ["topic=labels"], "did you mean topics=labels?"),
        (("topics", "roles"), ["roles="], "TASK=COLUMN is expected"),
        (("topics", "roles"), ["roles=a", "roles=b"], "'roles' has 'a' too"),
        (("topics",), ["a", "b"], "'topics' has 'a' too"),
    ],
)
def test_wrong_gold_columns_are_usage_errors(
    names: tuple[str, ...], values: list[str], said: str
) -> None:
    """Wrong usage, with what was expected."""
    with pytest.raises(UsageError) as caught:
        RunTasks.parse(dict.fromkeys(names, KIND), values)
    assert said in str(caught.value)


def test_gold_that_is_called_like_decided_labels_is_renamed(
    sample: pa.Table, write: Write, batch_classify: Command, score: Score, joint_bundle: Path
) -> None:
    """`narrative_labels` may be gold and nothing else; `labels` means nothing here and is kept."""
    names = [name.replace("narratives", "narrative_labels") for name in sample.column_names]
    renamed = sample.rename_columns(names)
    corpus = write(renamed.append_column("labels", renamed.column("domain")))
    refused = batch_classify(corpus, task="site,narrative", bundle=joint_bundle)
    scored = score(
        corpus,
        task="site,narrative",
        bundle=joint_bundle,
        gold_column="narrative=narrative_labels",
    )

    assert refused.exit_code == 1
    assert "predictions add themselves: 'narrative_labels'" in refused.stderr
    assert "say --gold-column narrative=narrative_labels" in refused.stderr
    assert scored.column("gold_narrative_labels").equals(sample.column("narratives"))
    assert scored.column("labels").equals(sample.column("domain"))


def test_gold_of_every_task_is_checked(
    sample: pa.Table, write: Write, batch_classify: Command, joint_bundle: Path, tmp_path: Path
) -> None:
    """A column that is another task's is reported before anything is scored."""
    refused = batch_classify(
        write(sample),
        task="site,narrative",
        bundle=joint_bundle,
        gold_column=["narrative=narratives", "site=narratives"],
        output=tmp_path / "scored",
    )

    assert refused.exit_code == 1
    assert "gold column 'narratives' has" in refused.stderr
    assert not (tmp_path / "scored").exists()


def test_rows_without_a_score_are_alike_for_every_task(
    sample: pa.Table, write: Write, score: Score, joint_bundle: Path, tmp_path: Path
) -> None:
    """An empty row has no labels and no probabilities of any task; a damaged one is in none."""
    texts = [text.encode() for text in sample.column("text").to_pylist()]
    texts[3], texts[4] = b" ", b"\xff"
    corpus = write(sample.set_column(2, "text", pa.array(texts)))
    scored = score(
        corpus, task="site,narrative", bundle=joint_bundle, max_quarantined=1, chunk_rows=5
    )
    empty = scored.slice(3, 1).to_pylist()[0]

    assert scored.num_rows == 47
    assert (empty["status"], empty["site_labels"], empty["narrative_labels"]) == ("empty", [], [])
    assert empty["site_probabilities"] is empty["narrative_probabilities"] is None


def test_a_killed_joint_run_is_finished_by_the_same_command(
    sample: pa.Table,
    write: Write,
    words: Words,
    batch_classify: Command,
    joint_bundle: Path,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """After `kill -9` the folder becomes that of a run that was never stopped, to the byte."""
    corpus = write(pa.concat_tables([sample] * 2))
    options: dict[str, Any] = {
        "task": "site,narrative",
        "bundle": joint_bundle,
        "gold_column": ["narrative=narratives", "site=domain"],
        "chunk_rows": 2,
        "threads": 1,
    }
    with running(words(corpus, output=tmp_path / "killed", **options)) as process:
        while process.poll() is None and finished_chunks(tmp_path / "killed") < 5:
            time.sleep(0.001)
        process.kill()
        process.wait()
    left = finished_chunks(tmp_path / "killed")
    results = [
        batch_classify(corpus, output=tmp_path / name, **options) for name in ("killed", "whole")
    ]

    assert 5 <= left < 48
    assert [result.exit_code for result in results] == [0, 0]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_shards_of_a_joint_run_are_merged_to_the_byte(
    sample: pa.Table,
    write: Write,
    batch_classify: Command,
    joint_bundle: Path,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """Predictions, quarantine, the report of every task and run.json, but for its times."""
    texts = [text.encode() for text in sample.column("text").to_pylist()]
    texts[3], texts[4], texts[25] = b"\xff", b"", b"\xff"
    corpus = write(sample.set_column(2, "text", pa.array(texts)))
    options: dict[str, Any] = {
        "task": "site,narrative",
        "bundle": joint_bundle,
        "gold_column": ["narrative=narratives", "site=domain"],
        "chunk_rows": 7,
        "max_quarantined": 1,
    }
    shards = [tmp_path / "shard-1", tmp_path / "shard-2"]
    results = [
        batch_classify(corpus, **options, shard=f"{number}/2", output=shard)
        for number, shard in enumerate(shards, 1)
    ]
    results.append(batch_classify(corpus, **options, output=tmp_path / "whole"))
    results.append(merge(*shards, output=tmp_path / "merged"))

    assert [result.exit_code for result in results] == [0] * 4, results[-1].output
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


def test_shards_of_other_tasks_are_reported(
    sample: pa.Table, write: Write, batch_classify: Command, joint_bundle: Path, tmp_path: Path
) -> None:
    """They are no one run, whatever tasks they have in common."""
    corpus, shards = write(sample), [tmp_path / "shard-1", tmp_path / "shard-2"]
    for shard, task, number in zip(shards, ("narrative", "site,narrative"), "12", strict=True):
        batch_classify(corpus, task=task, bundle=joint_bundle, shard=f"{number}/2", output=shard)
    refused = merge(*shards, output=tmp_path / "merged")

    assert refused.exit_code == 1
    assert "task: was narrative, is site,narrative" in refused.stderr


@pytest.mark.parametrize(
    ("again", "known"), [("site,narrative", 48), ("roles,narrative", 0), ("narrative", 0)]
)
def test_cached_logits_are_those_of_the_same_tasks(
    sample: pa.Table,
    write: Write,
    batch_classify: Command,
    joint_bundle: Path,
    tmp_path: Path,
    contents: Contents,
    again: str,
    known: int,
) -> None:
    """What is known of two tasks is for those two, not for others of the same file."""
    corpus = write(sample)
    options: dict[str, Any] = {"bundle": joint_bundle, "chunk_rows": 20}
    cache, joint = tmp_path / "cache", "site,narrative"
    batch_classify(corpus, **options, task=joint, cache=cache, output=tmp_path / "first")
    cached = batch_classify(corpus, **options, task=again, cache=cache, output=tmp_path / "cached")
    plain = batch_classify(corpus, **options, task=again, output=tmp_path / "plain")

    assert (cached.exit_code, plain.exit_code) == (0, 0), cached.output
    assert f"cache: {known} of 48 texts were cached" in cached.stderr
    assert contents(tmp_path / "cached") == contents(tmp_path / "plain")
