"""Commands with standard streams that cannot be written to, and with hostile names."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny import SAMPLES

COMMANDS = {
    "batch-classify": "batch",
    "train-classifier": "trainer",
    "export-classifier": "exporter",
}

BREAKERS = {
    "full": "exec {words} >/dev/full 2>/dev/full",
    "closed": "exec {words} >&- 2>&- <&-",
    "stdout closed": "exec {words} >&-",
    "stderr closed": "exec {words} 2>&-",
}
"""Shell commands that run `{words}` with streams that cannot be written."""

EVIL = "a\nhint: rm -rf /\x1b[2J\u202e"


def process(command: str, words: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
    """Start a command like its console script, in a new process."""
    code = f"from {COMMANDS[command]}.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        encoding=options.pop("encoding", "utf-8"),
        env={**os.environ, "OMP_NUM_THREADS": "1"} | options.pop("environment", {}),
        **options,
    )


def finish(command: str, words: Sequence[str | Path], **options: Any) -> tuple[int, str, str]:
    """Run a command; returns exit code, stdout and stderr."""
    streams: dict[str, int | IO[str]] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = process(command, words, **(streams | options))
    out, error = started.communicate(timeout=300)
    return started.returncode, out or "", error or ""


def in_shell(how: str, command: str, words: Sequence[str | Path]) -> int:
    """Exit code of a command that a shell starts with broken streams."""
    code = f"import sys; from {COMMANDS[command]}.cli import main; main()"
    line = BREAKERS[how].format(words='"$@"')
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", sys.executable, "-c", code, *map(str, words)], check=False
    ).returncode


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    """Twelve articles."""
    path = tmp_path / "articles.parquet"
    pq.write_table(pq.read_table(SAMPLES / "articles.parquet").slice(0, 12), path)
    return path


@pytest.fixture
def scoring(bundle: Path, articles: Path, tmp_path: Path) -> Callable[..., list[str | Path]]:
    """Arguments of `batch-classify` that score the articles into an output folder."""

    def words(name: str, *more: str) -> list[str | Path]:
        fixed: list[str | Path] = ["--task", "narrative", "--bundle", bundle, "--device", "cpu"]
        return [articles, *fixed, "--output", tmp_path / name, *more]

    return words


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", BREAKERS)
def test_help_succeeds_without_streams(command: str, how: str) -> None:
    """--help into a full device or closed streams is exit 0."""
    assert in_shell(how, command, ["--help"]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_help_into_a_pipe_without_reader_succeeds(command: str) -> None:
    """`--help | true` is exit 0, and Python's flush at exit reports no error."""
    reader, writer = os.pipe()
    os.close(reader)
    code, _, error = finish(command, ["--help"], stdout=writer)
    os.close(writer)

    assert (code, error) == (0, "")


@pytest.mark.parametrize("how", BREAKERS)
def test_run_finishes_without_streams(
    how: str, scoring: Callable[..., list[str | Path]], tmp_path: Path
) -> None:
    """A run whose streams are full or closed scores every row and ends with exit 0."""
    assert in_shell(how, "batch-classify", scoring("scored")) == 0
    assert json.loads((tmp_path / "scored/run.json").read_bytes())["counts"]["rows"] == 12
    assert pq.read_table(tmp_path / "scored/predictions/part-00000.parquet").num_rows == 12


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_run_finishes_when_its_reader_is_gone(
    log_format: str, scoring: Callable[..., list[str | Path]], tmp_path: Path
) -> None:
    """Pipes that are closed before the first line do not stop a run."""
    reader, writer = os.pipe()
    os.close(reader)
    words = scoring("scored", "--log-format", log_format)
    code, _, _ = finish("batch-classify", words, stdout=writer, stderr=writer)
    os.close(writer)

    assert code == 0
    assert (tmp_path / "scored/run.json").exists()


def test_run_finishes_with_a_full_non_blocking_pipe(
    scoring: Callable[..., list[str | Path]],
) -> None:
    """A pipe that is always full does not stop a run."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        code, _, _ = finish("batch-classify", scoring("scored"), stdout=writer, stderr=writer)
    os.close(reader)
    os.close(writer)

    assert code == 0


def test_errors_keep_their_exit_code_without_streams(bundle: Path) -> None:
    """A usage error is exit 2 and a missing corpus exit 1, even if no message can be written."""
    words: list[str | Path] = ["missing.parquet", "--task", "narrative", "--bundle", bundle]

    assert in_shell("full", "batch-classify", ["--task"]) == 2
    assert in_shell("full", "batch-classify", words) == 1
    assert in_shell("closed", "train-classifier", ["missing.toml"]) == 2


def test_full_output_disk_still_fails(scoring: Callable[..., list[str | Path]]) -> None:
    """An output folder that cannot be written is an error, whatever the state of the streams."""
    words = scoring("scored")
    words[words.index("--output") + 1] = Path("/dev/full/scored")

    assert in_shell("full", "batch-classify", words) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_json_log_is_json_in_every_encoding(
    encoding: str, scoring: Callable[..., list[str | Path]]
) -> None:
    """Letters that an encoding lacks, and controls, are JSON escapes; each line is an object."""
    words = scoring("geprüft قصص\x9b", "--log-format", "json")
    code, _, error = finish(
        "batch-classify", words, encoding=encoding, environment={"PYTHONIOENCODING": encoding}
    )
    lines = error.splitlines()

    assert code == 0
    assert {"start", "finished"} <= {json.loads(line)["event"] for line in lines}


def test_usage_errors_are_json_too() -> None:
    """With --log-format json a wrong option is one line of JSON, exit 2."""
    words = ["a.parquet", "--task", "x", "--chunk-rows", "none", "--log-format", "json"]
    code, _, error = finish("batch-classify", words)

    assert code == 2
    assert "--chunk-rows" in json.loads(error)["message"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("batch-classify", [EVIL, "--task", "narrative"]),
        ("batch-classify", ["a.parquet", "--task", EVIL]),
        ("batch-classify", ["doctor", EVIL]),
        ("batch-classify", ["merge", EVIL]),
        ("batch-classify", ["a.parquet", "--task", "x", f"--{EVIL}"]),
        ("batch-classify", ["a.parquet", "--task", "x", "--device", EVIL]),
        ("train-classifier", [EVIL]),
        ("train-classifier", ["search", EVIL, EVIL]),
        ("export-classifier", [EVIL]),
        ("export-classifier", ["sign", "--key", EVIL, EVIL]),
    ],
)
def test_names_cannot_start_a_line_or_send_escape_sequences(
    command: str, words: list[str], bundle: Path, tmp_path: Path
) -> None:
    """Text of a name is never at the start of a line, and is escaped."""
    code, out, error = finish(
        command, words, environment={"NARRASCAN_BUNDLE": str(bundle)}, cwd=tmp_path
    )

    assert code in {1, 2}
    assert "hint: rm" not in [line[:8] for line in (out + error).splitlines()]
    assert all(line.isprintable() for line in (out + error).split("\n"))


def test_names_in_a_corpus_cannot_start_a_line(bundle: Path, tmp_path: Path) -> None:
    """File names, columns and domains with line breaks are scored, and cannot forge log lines."""
    path = tmp_path / f"{EVIL.replace('/', '')}.parquet"
    table = pa.table({"text": ["Rain is expected."] * 3, "domain": [EVIL] * 3, EVIL: [1, 2, 3]})
    pq.write_table(table, path)
    words: list[str | Path] = [path, "--task", "narrative", "--bundle", bundle, "--device", "cpu"]
    for name, more in (("dry", ["--dry-run"]), ("run", [])):
        code, out, error = finish(
            "batch-classify", [*words, "--output", tmp_path / name, *more], cwd=tmp_path
        )

        assert code == 0, error
        assert not [line for line in (out + error).splitlines() if line.startswith("hint:")]
        assert all(line.isprintable() for line in (out + error).split("\n"))
