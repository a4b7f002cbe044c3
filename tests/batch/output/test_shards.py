"""Several machines share a corpus, and their shards become the run that one would have made."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from batch.cli import main
from batch.corpus.plan import chunks_of, make_plan
from batch.corpus.tasks import RunTasks
from batch.options import CorpusOptions, Shard
from batch.output.marker import Marker
from schemas.text.model_text import TextSpec
from tests.label_tasks import KIND

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Command = Callable[..., Result]
Contents = Callable[[Path], dict[str, bytes]]

OPTIONS: dict[str, Any] = {
    "chunk_rows": 5,
    "threads": 1,
    "gold_column": "narratives",
    "max_quarantined": 1,
}
MARKER = ".narrascan/done/00003.json"
TASKS = RunTasks.parse({"narrative": KIND}, ())

MERGING = """
import sys
from batch.cli import main
try:
    main()
except SystemExit as ended:
    print("exit", ended.code)
print("loaded", *sorted({"onnxruntime", "openvino", "torch"} & set(sys.modules)))
"""


def merge(*shards: Path, output: Path, **options: Any) -> Result:
    """Run `batch-classify merge`."""
    flags = [f"--{name}" for name, value in options.items() if value]
    return CliRunner().invoke(main, ["merge", *map(str, shards), "--output", str(output), *flags])


@pytest.fixture(scope="module")
def corpus(sample: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of 48 and 20 rows, some of them empty or for quarantine."""
    texts = [text.encode() for text in sample.column("text").to_pylist()]
    texts[5], texts[17], texts[18] = b"\xff", b"", b"\xff"
    rows = sample.set_column(2, "text", pa.array(texts))
    folder = tmp_path_factory.mktemp("shared")
    pq.write_table(rows, folder / "a.parquet", row_group_size=17)
    pq.write_table(rows.slice(0, 20), folder / "b.parquet")
    return folder


@pytest.fixture(scope="module")
def finished(corpus: Path, words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `whole` and three shards, all finished; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    shards = {"whole": {}, **{str(number): {"shard": f"{number}/3"} for number in (1, 2, 3)}}
    for name, shard in shards.items():
        command = words(corpus, **OPTIONS, **shard, output=folder / name)[1:]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished`."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def test_merged_shards_are_the_whole_run(
    runs: Path, tmp_path: Path, contents: Contents, corpus: Path, batch_classify: Command
) -> None:
    """Byte for byte, in whatever order they are named; merging again, or running the command
    without shards, finds nothing to do.
    """
    first = merge(runs / "3", runs / "1", runs / "2", output=tmp_path / "merged")
    merged = contents(tmp_path / "merged")
    again = merge(runs / "1", runs / "2", runs / "3", output=tmp_path / "merged")
    unsharded = batch_classify(corpus, **OPTIONS, output=tmp_path / "merged")

    assert first.exit_code == 0, first.output
    assert "3 shards merged" in first.stderr
    assert merged == contents(runs / "whole")
    assert "already complete" in again.stderr
    assert "already complete" in unsharded.stderr
    assert contents(tmp_path / "merged") == merged


def test_a_shard_is_no_whole_run(runs: Path, corpus: Path, batch_classify: Command) -> None:
    """It has neither run.json nor a report, and a command for another part does not touch it."""
    names = {path.name for path in (runs / "1").iterdir()}
    whole = batch_classify(corpus, **OPTIONS, output=runs / "1")
    other = batch_classify(corpus, **OPTIONS, output=runs / "1", shard="2/3")
    same = batch_classify(corpus, **OPTIONS, output=runs / "1", shard="1/3")

    assert names == {".narrascan", "predictions", "quarantine", "shard.json"}
    assert (whole.exit_code, other.exit_code, same.exit_code) == (1, 1, 0)
    assert "shard: was 1/3, is not there" in whole.stderr
    assert "shard: was 1/3, is 2/3" in other.stderr
    assert "already complete" in same.stderr


def test_merging_needs_neither_engine_nor_corpus_nor_bundle(runs: Path, tmp_path: Path) -> None:
    """It runs where only the shards are."""
    shards = [str(runs / name) for name in ("1", "2", "3")]
    command = [sys.executable, "-c", MERGING, "merge", *shards, "--output", "merged"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-2:] == ["exit 0", "loaded"]


def test_a_merge_that_was_killed_is_finished_by_the_same_command(
    runs: Path, tmp_path: Path, contents: Contents
) -> None:
    """At several moments, with nothing half-written under a final name."""
    whole, half_written = contents(runs / "whole"), []
    shards = [str(runs / name) for name in ("1", "2", "3")]
    program = str(Path(sys.executable).with_name("batch-classify"))
    command = [program, "merge", *shards, "--output", str(tmp_path / "merged")]
    done = tmp_path / "merged" / ".narrascan" / "done"
    for markers in (1, 6, 13):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
            while run.poll() is None and len(list(done.glob("[0-9]*.json"))) < markers:
                time.sleep(0.001)
            run.send_signal(signal.SIGKILL)
        left = contents(tmp_path / "merged" / "predictions")
        half_written += [name for name in left if left[name] != whole[f"predictions/{name}"]]
    result = merge(*map(Path, shards), output=tmp_path / "merged")

    assert half_written == []
    assert result.exit_code == 0, result.output
    assert contents(tmp_path / "merged") == whole


def test_a_missing_shard_is_named(runs: Path, tmp_path: Path) -> None:
    """Nothing is published without it."""
    result = merge(runs / "1", runs / "3", output=tmp_path / "merged")

    assert result.exit_code == 1
    assert "shards are missing: '2/3'" in result.stderr
    assert not (tmp_path / "merged").exists()


def test_an_unfinished_shard_is_named(runs: Path, tmp_path: Path) -> None:
    """A shard that was stopped may have markers, but does not say that it is finished."""
    for number in "23":
        (runs / number / "shard.json").unlink()
    shutil.rmtree(runs / "2" / ".narrascan" / "done")
    nothing = merge(runs / "1", runs / "2", runs / "3", output=tmp_path / "merged")
    some = merge(runs / "1", runs / "3", output=tmp_path / "merged")

    assert (nothing.exit_code, some.exit_code) == (1, 1)
    assert f"{runs / '2'}: contains no finished shard" in nothing.stderr
    assert f"{runs / '3'}: is not finished" in some.stderr
    assert not (tmp_path / "merged").exists()


def test_shards_of_the_same_files_in_another_order_are_not_merged(
    corpus: Path, batch_classify: Command, tmp_path: Path
) -> None:
    """Or one file would be there twice and the other not at all."""
    files = corpus / "a.parquet", corpus / "b.parquet"
    shards = tmp_path / "1", tmp_path / "2"
    ends = [
        batch_classify(*files, **OPTIONS, shard="1/2", output=shards[0]),
        batch_classify(*reversed(files), **OPTIONS, shard="2/2", output=shards[1]),
    ]
    result = merge(*shards, output=tmp_path / "merged")

    assert [end.exit_code for end in ends] == [0, 0]
    assert result.exit_code == 1
    assert "inputs: the order was" in result.stderr
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("field", ["first_row", "source_file", "source_fingerprint", "run_sha256"])
def test_a_marker_of_other_rows_is_not_merged(runs: Path, tmp_path: Path, field: str) -> None:
    """Also if its own hash is right: a chunk stands for the rows that the plan gives it."""
    owner = next(runs / number for number in "123" if (runs / number / MARKER).exists())
    marker = Marker.model_validate_json((owner / MARKER).read_bytes())
    other = 0 if field == "first_row" else "0" * 64
    changed = marker.model_copy(update={"chunk": marker.chunk.model_copy(update={field: other})})
    (owner / MARKER).write_text(changed.sealed().model_dump_json(), encoding="utf-8")
    result = merge(*(runs / number for number in "123"), output=tmp_path / "merged")

    assert result.exit_code == 1
    assert f"{owner}: the marker of chunk 3 does not count" in result.stderr
    assert not (tmp_path / "merged" / "run.json").exists()


def test_shards_that_lack_the_last_chunks_are_not_merged(runs: Path, tmp_path: Path) -> None:
    """Their records may say so: the rows of the inputs are counted."""
    for number in "123":
        path = runs / number / "shard.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**record, "chunks": record["chunks"] - 1}), encoding="utf-8")
    result = merge(*(runs / number for number in "123"), output=tmp_path / "merged")

    assert result.exit_code == 1
    assert "the shards do not hold all rows" in result.stderr
    assert not (tmp_path / "merged" / "run.json").exists()


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [(["0.5", "../../etc"], "thresholds"), ([0.5], "thresholds has 1 values for"), ([], "values")],
    ids=["text", "too few", "none"],
)
def test_a_damaged_decision_is_refused(
    runs: Path, tmp_path: Path, thresholds: list[object], message: str
) -> None:
    """As a damaged record, before the report is made."""
    for number in "123":
        path = runs / number / "shard.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["facts"]["tasks"][0]["decision"]["thresholds"] = thresholds
        path.write_text(json.dumps(record), encoding="utf-8")
    result = merge(*(runs / number for number in "123"), output=tmp_path / "merged")

    assert result.exit_code == 1
    assert "shard.json: is damaged" in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_shard_of_another_run_is_named_with_what_differs(
    runs: Path, tmp_path: Path, corpus: Path, batch_classify: Command
) -> None:
    """Other options, another corpus, another number of shards."""
    others = {
        "options.keep_text: was False, is True": {**OPTIONS, "keep_text": True, "shard": "2/3"},
        "shards: was 3, is 2": {**OPTIONS, "shard": "2/2"},
    }
    for number, (difference, options) in enumerate(others.items()):
        batch_classify(corpus, **options, output=tmp_path / f"other-{number}")
        shards = runs / "1", tmp_path / f"other-{number}", runs / "3"
        result = merge(*shards, output=tmp_path / "merged")

        assert result.exit_code == 1
        assert f"{tmp_path / f'other-{number}'}: is of another run than {runs / '1'}" in (
            result.stderr
        )
        assert difference in result.stderr


def test_folders_that_are_no_shards_are_named(runs: Path, tmp_path: Path) -> None:
    """A whole run, a shard twice, a folder that is not there, the output itself."""
    (tmp_path / "empty").mkdir()
    cases = {
        "contains a whole run, not a shard": (runs / "1", runs / "whole"),
        "is shard 1 of 3, and so is": (runs / "1", runs / "1"),
        "there is no such folder": (runs / "1", tmp_path / "nowhere"),
        "contains no finished shard": (runs / "1", tmp_path / "empty"),
    }
    for message, shards in cases.items():
        result = merge(*shards, output=tmp_path / "merged")

        assert result.exit_code == 1
        assert message in result.stderr
    assert merge(runs / "1", runs / "2", output=runs / "1").exit_code == 2
    assert merge(runs / "1", runs / "2", runs / "3", output=runs / "whole").exit_code == 0


DAMAGES = {
    "part deleted": ("predictions/part-00003.parquet", None, "cannot be copied"),
    "part changed": ("predictions/part-00003.parquet", b"PAR1", "is not what its marker says"),
    "marker deleted": (".narrascan/done/00003.json", None, "1 of 14 chunks are in none"),
    "marker damaged": (".narrascan/done/00003.json", b"{", "does not count"),
    "marker no text": (".narrascan/done/00003.json", b"\xff", "does not count"),
    "shard.json damaged": ("shard.json", b"{", "shard.json: is damaged: shard: Invalid JSON"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_reported_and_repaired_by_its_own_command(
    runs: Path,
    corpus: Path,
    tmp_path: Path,
    batch_classify: Command,
    contents: Contents,
    damage: str,
) -> None:
    """The merge stops, the shard is run again, and the merge resumes."""
    name, content, message = DAMAGES[damage]
    owner = next(
        number for number in "123" if (runs / number / "predictions/part-00003.parquet").exists()
    )
    shards = [runs / number for number in "123"]
    if content is None:
        (runs / owner / name).unlink()
    else:
        (runs / owner / name).write_bytes(content)
    refused = merge(*shards, output=tmp_path / "merged")
    if name == "shard.json":
        (runs / owner / name).unlink()
    batch_classify(corpus, **OPTIONS, shard=f"{owner}/3", output=runs / owner)
    repaired = merge(*shards, output=tmp_path / "merged")

    assert refused.exit_code == 1
    assert message in refused.stderr
    assert repaired.exit_code == 0, repaired.output
    assert contents(tmp_path / "merged") == contents(runs / "whole")


def test_a_shard_may_have_nothing_to_do(
    corpus: Path, tmp_path: Path, batch_classify: Command, contents: Contents
) -> None:
    """More machines than chunks: the idle one ends with exit 0, and the merge is the whole run."""
    options = {**OPTIONS, "chunk_rows": 4096}
    batch_classify(corpus, **options, output=tmp_path / "whole")
    shards = [tmp_path / number for number in "123"]
    ends = [
        batch_classify(corpus, **options, shard=f"{shard.name}/3", output=shard) for shard in shards
    ]
    merged = merge(*shards, output=tmp_path / "merged")

    assert [end.exit_code for end in (*ends, merged)] == [0] * 4, ends[2].output
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


def test_too_many_quarantined_rows_end_a_merge_with_exit_3(
    runs: Path, tmp_path: Path, contents: Contents
) -> None:
    """The share that the shards were given counts for the whole, which is published anyway."""
    for number in "123":
        path = runs / number / "shard.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["facts"]["max_quarantined"] = 0.01
        path.write_text(json.dumps(record), encoding="utf-8")
    result = merge(*(runs / number for number in "123"), output=tmp_path / "merged")

    assert result.exit_code == 3
    assert "more than the allowed share of 0.01" in result.stderr
    assert (tmp_path / "merged" / "run.json").exists()


@pytest.mark.parametrize("of", [1, 2, 3, 7, 40])
def test_each_chunk_is_done_by_exactly_one_shard(corpus: Path, tmp_path: Path, of: int) -> None:
    """However many shards, even more than chunks."""
    options = CorpusOptions((str(corpus),), chunk_rows=5)
    plan = make_plan(options, TASKS, TextSpec())
    given = [chunk for i in range(of) for chunk in chunks_of(plan, Shard(i + 1, of))]

    assert sorted(given, key=lambda chunk: chunk.index) == list(plan.chunks)


def test_work_is_even_where_files_of_different_sizes_alternate(
    write: Write, tmp_path: Path
) -> None:
    """Every second file has long texts: no shard gets all of those."""
    for number in range(12):
        length = 4000 if number % 2 else 400
        texts = [f"{row} " * length for row in range(10)]
        write({"text": texts}, f"mixed/{number:02}.parquet", use_dictionary=False)
    options = CorpusOptions((str(tmp_path / "mixed"),))
    plan = make_plan(options, TASKS, TextSpec())
    sizes = [
        sum(plan.files[chunk.file].row_bytes * chunk.rows for chunk in chunks_of(plan, Shard(i, 2)))
        for i in (1, 2)
    ]

    assert max(sizes) < 1.3 * min(sizes)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "1/0", "-1/3", "a/b"])
def test_a_shard_that_cannot_be_is_wrong_usage(
    corpus: Path, batch_classify: Command, tmp_path: Path, shard: str
) -> None:
    """Shards are counted from 1."""
    result = batch_classify(corpus, shard=shard, output=tmp_path / "scored")

    assert result.exit_code == 2
    assert "expected I/N, such as 1/8 to 8/8" in result.stderr
