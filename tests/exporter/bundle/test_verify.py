"""What `export-classifier verify` promises: a sound bundle passes anywhere, another does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import helper, numpy_helper

from batch.engines import usable_engines
from batch.engines.versions import engine_and_cpu
from batch.machine.device import choose_device
from exporter.bundle.inspection import BundleReport
from exporter.checks.invariance import rearranged
from exporter.checks.probes import MARGIN, PROBES
from exporter.graph.trace import embed_metadata
from schemas.bundle.folder import Bundle
from schemas.bundle.probes import MAX_PROBES, PROBE_SCHEMA, Probes, read_probes, write_probes
from schemas.errors import BundleError
from schemas.io.files import FileFacts
from schemas.text.model_text import ENTITY_START
from tests.exporting import export_classifier, scorer_of
from tests.label_tasks import logits_of
from tests.tiny import sample_rows

TASKS = ["narrative", "entity_framing"]


@pytest.fixture
def ours(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "ours"))


def vouch(folder: Path) -> None:
    """Make the manifest fit whatever the files are now."""
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {
        name: FileFacts.of(folder / name).model_dump() for name in manifest["files"]
    }
    path.write_text(json.dumps(manifest))


def problems(folder: Path) -> list[str]:
    """Problems that `verify` reports; there must be one."""
    result = export_classifier("verify", folder)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return [line for line in result.output.splitlines() if line.startswith("problem")]


def test_an_untouched_bundle_passes(bundle: Path) -> None:
    """Every check is a row, for every task; here every bit is that of the export."""
    result = export_classifier("verify", bundle)
    rows = result.output.splitlines()

    assert result.exit_code == 0
    assert {row.split()[0] for row in rows} == {"ok", "note"}
    for task in TASKS:
        findings = "\n".join(row for row in rows if row.split()[1] == task)
        assert "without external data" in findings
        assert "metadata is valid" in findings
        assert f"{PROBES} probe texts become the tokens of the export" in findings
        assert "those of the export on the same kind of machine, to the last bit" in findings
        assert "the same to the last bit alone, in another order, among other rows, with " in (
            findings
        )


def test_checks_can_be_read_by_a_program(bundle: Path) -> None:
    """One JSON object a line."""
    result = export_classifier("verify", bundle, "--json")
    rows = [json.loads(line) for line in result.output.splitlines()]

    assert len(rows) == len(export_classifier("verify", bundle).output.splitlines())
    assert all({"verdict", "subject", "text", "advice"} == {*row} for row in rows)


ALONE = """
import sys
from exporter.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    print("exit", ended.code)
heavy = {"torch", "transformers", "optimum", "onnx", "sklearn", "trainer"}
print(*sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_bundle_is_checked_without_the_training_stack(ours: Path, command: str) -> None:
    """No torch, no onnx package, no checkpoint: whatever can score can check and inspect."""
    words = [sys.executable, "-c", ALONE, command, str(ours)]
    result = subprocess.run(words, capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-2:] == ["exit 0", ""]


@pytest.mark.parametrize("name", ["narrative.onnx", "MODEL_CARD.md", "probes.parquet"])
def test_a_changed_file_is_a_problem(ours: Path, name: str) -> None:
    """And does not keep the other checks from being made."""
    (ours / name).write_bytes((ours / name).read_bytes() + b"\n")

    assert f"{name}: changed since the bundle was written" in problems(ours)[0]


def test_a_file_of_someone_elses_is_noted(ours: Path) -> None:
    """It is not used, so it is no problem."""
    (ours / "weights.bin").write_bytes(b"0")
    result = export_classifier("verify", ours)

    assert result.exit_code == 0
    assert "weights.bin: is not part of the bundle" in result.output


def test_a_folder_without_a_bundle_is_a_problem(tmp_path: Path) -> None:
    """Reported like any other."""
    assert "no bundle here" in problems(tmp_path)[0]


def edit_weights(path: Path, change: float) -> None:
    """Add a little to the bias of the head."""
    model = onnx.load(path)
    (bias,) = [one for one in model.graph.initializer if one.name.endswith(".linear.bias")]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + change, bias.name))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (1e-3, "outputs differ by 1.0e-03"),
        (np.float32(np.nan), "outputs are not finite numbers"),
    ],
    ids=["a little", "not a number"],
)
def test_another_graph_is_detected_by_its_outputs(ours: Path, change: Any, message: str) -> None:
    """Where the manifest fits and metadata is valid, outputs differ from those at export."""
    edit_weights(ours / "narrative.onnx", change)
    vouch(ours)
    lines = problems(ours)

    assert lines
    assert all(message in line for line in lines)  # by every engine


def test_a_score_that_depends_on_other_rows_is_a_problem(ours: Path) -> None:
    """With a mean over the batch added, a row's scores depend on the other rows."""
    path = ours / "narrative.onnx"
    model = onnx.load(path)
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == "logits":
                node.output[place] = "own_logits"
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["own_logits"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Add", ["own_logits", "mean"], ["logits"]),
        ]
    )
    onnx.save(model, path)
    vouch(ours)

    assert any("scores of a row differ alone, " in line for line in problems(ours))


def test_other_tokens_are_a_problem(ours: Path) -> None:
    """As another version of the tokenizers library might make them."""
    probes = probes_of(ours)
    probes[0].tokenized[3].ids[1] += 1
    write_probes(ours / "probes.parquet", probes)
    vouch(ours)

    assert f"1 of {PROBES} probe texts become other tokens" in problems(ours)[0]


def test_another_tokenizer_is_a_problem(ours: Path) -> None:
    """Each graph knows the hash of its own."""
    tokenizer = json.loads((ours / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    (ours / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    vouch(ours)
    lines = problems(ours)

    assert len(lines) == len(TASKS)
    assert all("is not the tokenizer that task" in line for line in lines)


def probes_of(bundle: Path) -> list[Probes]:
    """The probes of a bundle."""
    return read_probes((bundle / "probes.parquet").read_bytes(), "probes.parquet")


def triples(text: str) -> set[tuple[str, ...]]:
    """Words of a text that follow each other, by three."""
    words = text.lower().split()
    return {tuple(words[place : place + 3]) for place in range(len(words) - 2)}


def test_probes_are_no_ones_texts(bundle: Path, checkpoint: Path) -> None:
    """Random pieces of the vocabulary, short to too long; an entity is marked where one must be."""
    probes = {one.task: one for one in probes_of(bundle)}
    known = {words for text in sample_rows("train")["text"] for words in triples(text)}

    for one in probes.values():
        lengths = [len(text.ids) for text in one.tokenized]
        assert (min(lengths) <= 4, max(lengths)) == (True, 128) or one.task == "entity_framing"
        for text in one.texts:
            assert not known & triples(text.text)
    assert all(ENTITY_START in text.text for text in probes["entity_framing"].texts)


def test_the_bound_for_other_machines_is_measured(bundle: Path) -> None:
    """From ways to compute the same here; the metadata says where that was."""
    for task in TASKS:
        portability = scorer_of(bundle, task).metadata.metrics.portability
        fastest = usable_engines("fp32", choose_device("cpu"))[0]

        assert portability.machine == engine_and_cpu(fastest)
        assert 0 < portability.max_logit_difference < 1e-5
        assert portability.bound == pytest.approx(MARGIN * portability.max_logit_difference)


def test_rearranged_rows_come_back_in_their_order(bundle: Path) -> None:
    """Whatever the other rows of the batch, a row's outputs come back under its own number."""
    runner = scorer_of(bundle, TASKS[0]).runner
    texts = probes_of(bundle)[0].tokenized
    expected = logits_of(runner, texts)

    assert len({row.tobytes() for row in expected}) == len(expected)
    arranged = rearranged(runner, texts)
    assert list(arranged) == ["alone", "in another order", "among other rows"]
    for outputs in arranged.values():
        assert np.stack(outputs).tobytes() == expected.tobytes()


def test_inspect_shows_a_whole_bundle(bundle: Path) -> None:
    """Files with their hashes, and every task with its labels."""
    result = export_classifier("inspect", bundle)
    manifest = Bundle.open(bundle).manifest

    assert result.exit_code == 0
    assert "Signed: no." in result.output
    for name, facts in manifest.files.items():
        assert f"| {name} | {facts.bytes:,} | {facts.sha256} |" in result.output
    for task in TASKS:
        assert f"\n## {task}\n" in result.output


def test_inspect_prints_a_bundle_as_json(bundle: Path) -> None:
    """One object with everything."""
    report = BundleReport.model_validate_json(export_classifier("inspect", bundle, "--json").output)
    opened = Bundle.open(bundle)

    assert (report.sha256, report.files) == (opened.sha256, opened.manifest.files)
    for task in TASKS:
        assert report.tasks[task] == scorer_of(bundle, task).metadata


def test_metadata_of_an_older_version_is_a_problem(ours: Path) -> None:
    """A file that does not say what it may differ by is not valid."""
    path = ours / "narrative.onnx"
    embed_metadata(path, [scorer_of(ours).metadata])
    model = onnx.load(path)
    for prop in model.metadata_props:
        if prop.key == "narrascan.metrics":
            metrics = json.loads(prop.value)
            del metrics["portability"]
            prop.value = json.dumps(metrics)
    onnx.save(model, path)
    vouch(ours)

    assert "metrics.portability: Field required" in problems(ours)[0]


def test_probes_without_end_are_not_read(tmp_path: Path) -> None:
    """A table of millions of rows may be a small file."""
    rows = pa.table({name: pa.nulls(MAX_PROBES + 1) for name in PROBE_SCHEMA.names})
    pq.write_table(rows.cast(PROBE_SCHEMA), tmp_path / "probes.parquet")

    with pytest.raises(BundleError, match="rows, and at most 100,000 are expected"):
        probes_of(tmp_path)
