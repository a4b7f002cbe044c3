"""The scoring runtime as a scheduler meets it: light, quiet, and able to say what is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from batch.cli import main

Write = Callable[..., Path]
Words = Callable[..., list[str]]
Command = Callable[..., Result]

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]
EVENTS = {"device", "start", "finished"}

SCORING = """
import sys
from batch.cli import main
try:
    main()
except SystemExit as ended:
    print("exit", ended.code)
print("loaded", *sorted({"torch", "transformers", "optimum", "onnx", "polars"} & set(sys.modules)))
"""


def test_the_command_line_loads_nothing_heavy() -> None:
    """`--help` answers at once: no engine, no training stack, no Arrow."""
    code = (
        "import batch.cli, sys; heavy = {'torch', 'transformers', 'onnxruntime', 'pyarrow'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"


def test_scoring_loads_no_training_stack(write: Write, words: Words, tmp_path: Path) -> None:
    """A whole run needs neither torch nor transformers, so the scoring image can leave them out."""
    command = words(write({"text": TEXTS}), output=tmp_path / "scored")[1:]
    result = subprocess.run(
        [sys.executable, "-c", SCORING, *command], capture_output=True, text=True, check=True
    )

    assert result.stdout.splitlines()[-2:] == ["exit 0", "loaded"]


def test_openvino_reports_nothing_to_anyone() -> None:
    """OpenVINO is asked what the processor can do without its thread that reports the import."""
    code = (
        "import sys, threading; from batch.engines.openvino import openvino_problem; "
        "openvino_problem('bf16'); import openvino.tools.ovc as ovc; "
        "print(type(ovc.telemetry).__module__, sys.modules['openvino_telemetry'], "
        "threading.active_count())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None", "1"]


def test_doctor_finds_this_installation_sound(bundle: Path) -> None:
    """Exit 0, with the engine's version and every file of the bundle checked."""
    result = CliRunner().invoke(main, ["doctor", "--bundle", str(bundle)])

    assert result.exit_code == 0, result.output
    assert "ok       engine   onnxruntime" in result.output
    assert "CPUExecutionProvider" in result.output
    assert re.search(r"ok       openvino +[\d.]+; runs fp32", result.output)
    assert "in fp32 by openvino on cpu" in result.output
    assert "every file is as it was exported; tasks: narrative, entity_framing" in result.output


def test_doctor_needs_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh installation without artifacts/ is sound too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NARRASCAN_BUNDLE", raising=False)
    result = CliRunner().invoke(main, ["doctor"])

    assert result.exit_code == 0, result.output
    assert "bundle" not in result.output


@pytest.mark.parametrize("name", ["entity_framing.onnx", "MODEL_CARD.md"])
def test_doctor_names_a_changed_file(
    edit_bundle: Callable[..., Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1; files of other tasks and the card count, and $NARRASCAN_BUNDLE is heard."""
    folder = edit_bundle()
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    monkeypatch.setenv("NARRASCAN_BUNDLE", str(folder))
    result = CliRunner().invoke(main, ["doctor"])

    assert result.exit_code == 1
    assert f"problem  bundle   {folder / name}: changed since the bundle was written" in (
        result.output
    )


@pytest.fixture
def both_wheels(tmp_path: Path) -> dict[str, str]:
    """An environment in which pip has onnxruntime and onnxruntime-gpu installed side by side."""
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / "site" / f"{name}-1.31.1.dist-info"
        folder.mkdir(parents=True)
        dashed = name.replace("_", "-")
        facts = f"Metadata-Version: 2.1\nName: {dashed}\nVersion: 1.31.1\n"
        (folder / "METADATA").write_text(facts, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


def test_doctor_finds_both_engines_side_by_side(both_wheels: dict[str, str], words: Words) -> None:
    """They overwrite each other's files; exit 1 with the way out."""
    command = [words()[0], "doctor"]
    result = subprocess.run(command, env=both_wheels, capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert "are installed side by side" in result.stdout
    assert "hint: pip uninstall onnxruntime onnxruntime-gpu" in result.stdout


def test_cuda_is_refused_with_both_engines_side_by_side(
    both_wheels: dict[str, str], write: Write, words: Words, tmp_path: Path
) -> None:
    """The CPU wheel that was installed last would score on the CPU without a word."""
    command = words(write({"text": TEXTS}), device="cuda", output=tmp_path / "scored")
    result = subprocess.run(command, env=both_wheels, capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert "--device cuda: CUDA is not available: " in result.stderr
    assert not (tmp_path / "scored").exists()


def test_json_logs_are_one_object_a_line(
    sample: pa.Table, write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """Every line on stderr parses, with time, event and message; start and end are reported."""
    options = {"log_format": "json", "output": tmp_path / "scored", "chunk_rows": 20}
    result = batch_classify(write(sample), **options)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    by_event = {line["event"]: line for line in lines}

    assert result.exit_code == 0
    assert {*by_event} >= EVENTS
    assert all({"time", "event", "message"} <= {*line} for line in lines)
    assert (by_event["start"]["rows"], by_event["start"]["rows_done"]) == (48, 0)
    assert (by_event["finished"]["rows"], by_event["finished"]["quarantined"]) == (48, 0)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"task": "none"}, "UsageError"),
        ({"text_column": "нема"}, "CorpusError"),
        ({"device": "cuda:7"}, "DeviceError"),
        ({"deadline": "0s"}, "StoppedError"),
    ],
)
def test_json_logs_tell_errors_too(
    write: Write,
    batch_classify: Command,
    tmp_path: Path,
    options: dict[str, str],
    kind: str,
) -> None:
    """The last line is the error with its kind, on one line though the message has two."""
    corpus = write({"text": TEXTS})
    result = batch_classify(corpus, log_format="json", output=tmp_path / "scored", **options)
    last = json.loads(result.stderr.splitlines()[-1])

    assert result.exit_code != 0
    assert (last["event"], last["kind"]) == ("error", kind)
    assert last["message"].startswith("Error: ")


def test_a_run_is_quiet_where_there_is_no_terminal(
    sample: pa.Table, write: Write, words: Words, tmp_path: Path
) -> None:
    """No bar and no escape codes in a scheduler's log: the device and one line at the end."""
    command = words(write(sample), output=tmp_path / "scored", chunk_rows=5)
    result = subprocess.run(command, capture_output=True, text=True, check=True)

    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["device", "48 rows"]
    assert result.stdout.splitlines() == [
        f"predictions: {tmp_path / 'scored' / 'predictions'}",
        f"report:      {tmp_path / 'scored' / 'report.html'}",
    ]
    assert "\x1b" not in result.stdout + result.stderr


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    sample: pa.Table, write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """Files, rows and chunks are reported, with --log-format json as one object on stdout."""
    options = {"output": tmp_path / "scored", "chunk_rows": 20, "log_format": "json"}
    result = batch_classify(write(sample), dry_run=True, **options)
    plan = json.loads(result.stdout)

    assert result.exit_code == 0
    assert (plan["files"], plan["rows"], plan["chunks"], plan["device"]) == (1, 48, 3, "cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.parquet"]


def test_a_dry_run_finds_what_a_run_would(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """Unknown gold labels, for instance, are reported without scoring."""
    corpus = write({"text": TEXTS, "gold": ["Othr"] * 3})
    result = batch_classify(corpus, output=tmp_path / "scored", gold_column="gold", dry_run=True)

    assert result.exit_code == 1
    assert "did you mean 'Other'?" in result.stderr


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(main.commands))], ids=str)
def test_every_command_has_help(command: list[str]) -> None:
    """--help exits 0 and describes every option."""
    result = CliRunner().invoke(main, [*command, "--help"])
    options = main.commands[command[0]].params if command else main.params

    assert result.exit_code == 0
    assert all(
        option in result.output for param in options for option in param.opts if "-" in option
    )


def test_the_bundle_comes_from_the_environment(
    bundle: Path, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$NARRASCAN_BUNDLE stands for --bundle, and `run` may be spelled out."""
    monkeypatch.setenv("NARRASCAN_BUNDLE", str(bundle))
    words = [str(write({"text": TEXTS})), "--task", "narrative", "--device", "cpu"]
    results = [
        CliRunner().invoke(main, [*run, *words, "--output", str(tmp_path / f"scored-{len(run)}")])
        for run in ([], ["run"])
    ]

    assert [result.exit_code for result in results] == [0, 0]


def test_auto_says_what_it_got(write: Write, batch_classify: Command, tmp_path: Path) -> None:
    """On the screen and in run.json: which device, and why no other."""
    result = batch_classify(write({"text": TEXTS}), device="auto", output=tmp_path / "scored")
    record = json.loads((tmp_path / "scored" / "run.json").read_text(encoding="utf-8"))

    assert result.exit_code == 0
    assert record["device"]["why"].startswith("auto: ")
    assert f"device: {record['device']['name']} ({record['device']['why']})" in result.stderr
