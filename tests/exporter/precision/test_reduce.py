"""What a reduced precision promises: its own decision, a bounded cost, equal scores every time."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from batch.engines.graph_file import GraphFile
from batch.engines.openvino import openvino_problem
from batch.machine.device import choose_device
from batch.scoring.precision import choose_precision
from batch.scoring.runner import GraphRunner, load_tokenizer
from batch.scoring.session import OpenGraph, TaskSession
from exporter.cli import main
from exporter.kinds.base import LABEL_LOSSES
from exporter.precision.gate import MAX_CHANGED_ARTICLES, gate
from exporter.precision.quantize import left_in_bf16, quantize, quantized_matmuls, sweep
from schemas.bundle.facts import VariantCost
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import Precision
from schemas.errors import UsageError
from schemas.kinds import KINDS
from schemas.text.tokens import TokenizedText
from tests.exporting import scorer_of
from tests.label_tasks import decision_of, logits_of
from tests.tiny import sample_rows
from trainer.checkpoint.reader import Checkpoint
from trainer.cli import main as train_command

needs_bf16 = pytest.mark.skipif(
    openvino_problem("bf16") is not None, reason=str(openvino_problem("bf16"))
)
needs_int8 = pytest.mark.skipif(
    openvino_problem("int8") is not None, reason=str(openvino_problem("int8"))
)
NUMBERS = np.array([[0.123, 0.456, -0.789, 1.011]], np.float32)
COST = VariantCost(
    texts=1000,
    output_error_max=0.01,
    output_error_mean=0.001,
    changed_decisions=0.0001,
    changed_articles=0.002,
    before={"micro_f1": 0.9, "macro_f1": 0.6},
    after={"micro_f1": 0.9, "macro_f1": 0.601},
    kept_nodes=(),
)


@pytest.fixture(scope="module")
def reduced(trained_alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the shared checkpoint with bf16, exported through the command line.

    The scores of the tiny model hardly differ between texts: a threshold among them, like a fitted
    one, would change too many labels to pass the gate.
    """
    folder = tmp_path_factory.mktemp("reduced") / "bundle"
    words = [str(trained_alone), "--output", str(folder), "--precision", "bf16"]
    words += ["--set", "narrative.thresholds.strategy=fixed"]
    words += ["--set", "narrative.thresholds.fixed=0.6"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A checkpoint of one task, one layer and few texts: each of them is run for every try of eight
    bits, and there is a try for every matmul.
    """
    folder = tmp_path_factory.mktemp("small")
    shallow = Path(shutil.copytree(encoder, folder / "encoder"))
    sizes = json.loads((shallow / "config.json").read_text())
    (shallow / "config.json").write_text(json.dumps({**sizes, "num_hidden_layers": 1}))
    sample_rows("train").gather_every(12).write_parquet(folder / "train.parquet")
    config = folder / "config.toml"
    config.write_text(
        f"""
schema_version = 1
[encoder]
source = "{shallow}"
max_tokens = 32
[train]
epoch_steps = 1
epochs = 1
[tasks.narrative]
data = [{{path = "{folder / "train.parquet"}", labels_column = "narratives"}}]
""",
        encoding="utf-8",
    )
    result = CliRunner().invoke(train_command, [str(config), "--output", str(folder / "out")])
    assert result.exit_code == 0, result.output
    return folder / "out"


def texts_of(checkpoint: Path, task: str = "narrative") -> list[TokenizedText]:
    """Training texts that the checkpoint keeps."""
    ids = Checkpoint.open(checkpoint).sample(task)
    return [TokenizedText(text, truncated=False) for text in ids]


@needs_bf16
def test_bf16_is_made_of_the_same_file_and_decides_by_its_own(reduced: Path) -> None:
    """One file, two sets of calibration and thresholds, and what the reduced one costs."""
    files = Bundle.open(reduced).precisions(("narrative",))
    plain, variant = (scorer_of(reduced, precision=each).metadata for each in ("fp32", "bf16"))

    assert files["bf16"] == files["fp32"] == "narrative.onnx"
    assert variant.precision == "bf16"
    assert decision_of(variant).calibration != decision_of(plain).calibration
    assert variant.cost is not None
    assert gate(variant.cost, LABEL_LOSSES) is None
    assert variant.cost.texts > 0


@needs_bf16
def test_what_fails_its_gate_is_not_published(
    trained_alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export continues without it."""
    monkeypatch.setattr("exporter.precision.gate.MAX_CHANGED_ARTICLES", -1.0)  # nothing passes
    output = tmp_path / "bundle"
    words = [str(trained_alone), "--output", str(output), "--precision", "bf16"]
    result = CliRunner().invoke(main, words)

    assert result.exit_code == 0, result.output
    assert list(Bundle.open(output).precisions(("narrative",))) == ["fp32"]


@needs_bf16
def test_bf16_gives_a_text_the_same_bits_in_every_arrangement(
    reduced: Path, trained_alone: Path
) -> None:
    """Other rows, order, repeats and threads change nothing, to the last bit."""
    texts = texts_of(trained_alone)
    runner = scorer_of(reduced, precision="bf16", threads=1).runner
    expected = logits_of(runner, texts)
    threads = scorer_of(reduced, precision="bf16", threads=2).runner
    order = np.random.default_rng(0).permutation(len(texts))

    assert np.array_equal(logits_of(runner, [texts[row] for row in order]), expected[order])
    assert np.array_equal(logits_of(threads, texts), expected)
    for row in (0, len(texts) // 2, len(texts) - 1):
        assert np.array_equal(logits_of(runner, [texts[row]])[0], expected[row])


@needs_bf16
def test_bf16_is_close_to_fp32_and_not_equal(reduced: Path, trained_alone: Path) -> None:
    """It really is computed in another precision."""
    texts = texts_of(trained_alone)
    plain, variant = (
        logits_of(scorer_of(reduced, precision=precision).runner, texts)
        for precision in ("fp32", "bf16")
    )

    assert not np.array_equal(plain, variant)
    assert np.abs(plain - variant).max() < 0.02 * np.abs(plain).max()


@needs_bf16
def test_what_the_bundle_lists_first_is_taken(reduced: Path) -> None:
    """`auto` takes the first precision that the machine can run; a named one must be there."""
    bundle, device = Bundle.open(reduced), choose_device("cpu")
    first = next(iter(bundle.precisions(("narrative",))))

    assert choose_precision(bundle, ("narrative",), device, "auto") == first
    assert choose_precision(bundle, ("narrative",), device, "fp32") == "fp32"
    with pytest.raises(UsageError, match="has task 'narrative' in"):
        choose_precision(bundle, ("narrative",), device, "int8")
    with pytest.raises(UsageError, match="expected auto or one of"):
        choose_precision(bundle, ("narrative",), device, "fp8")


@needs_bf16
def test_recalibrating_fits_every_precision(reduced: Path, tmp_path: Path) -> None:
    """Both decide by the new rows, and the file says on what."""
    rows = Path(__file__).parents[3] / "samples" / "articles.parquet"
    words = ["recalibrate", str(reduced), "--task", "narrative", "--data", str(rows)]
    words += ["--labels-column", "narratives", "--output", str(tmp_path / "new")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output

    for precision in ("fp32", "bf16"):
        before, after = (
            scorer_of(folder, precision=precision).metadata
            for folder in (reduced, tmp_path / "new")
        )
        assert after.recalibration is not None
        assert decision_of(after).calibration != decision_of(before).calibration


def test_unknown_precision_is_wrong_usage(checkpoint: Path, tmp_path: Path) -> None:
    """Exit 2 with those that there are, and nothing is written."""
    output = tmp_path / "bundle"
    result = CliRunner().invoke(
        main, [str(checkpoint), "--output", str(output), "--precision", "bf16,fp8"]
    )

    assert result.exit_code == 2
    assert "unknown 'fp8'" in result.output
    assert "'fp32', 'fp16', 'bf16', 'int8'" in result.output
    assert not output.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"changed_articles": MAX_CHANGED_ARTICLES + 0.001}, "changes the answers to 1.60%"),
        (
            {"after": {"micro_f1": 0.9 - LABEL_LOSSES["macro_f1"] - 0.001, "macro_f1": 0.6}},
            "micro-F1 drops from 0.9000 to 0.8960; the allowed drop is 0.003",
        ),
        (
            {"after": {"micro_f1": 0.9, "macro_f1": 0.6 - LABEL_LOSSES["macro_f1"] - 0.001}},
            "macro-F1 drops from 0.6000 to 0.5960; the allowed drop is 0.003",
        ),
    ],
)
def test_gate_refuses_what_costs_too_much(change: dict[str, object], message: str) -> None:
    """Just inside the bounds passes, just outside does not."""
    problem = gate(COST.model_copy(update=change), LABEL_LOSSES)

    assert gate(COST, LABEL_LOSSES) is None
    assert problem is not None
    assert message in problem


def quantized_graph() -> onnx.ModelProto:
    """x -> rounded -> first matmul -> rounded -> second matmul; weights in 8 bits."""
    nodes, weights = [], []
    for number, source in ((1, "x"), (2, "y1")):
        weight = np.eye(4, dtype=np.int8) * 100
        weights += [
            numpy_helper.from_array(weight, f"w{number}"),
            numpy_helper.from_array(np.array(0.01, np.float32), f"ws{number}"),
            numpy_helper.from_array(np.array(0.1 * number, np.float32), f"s{number}"),
            numpy_helper.from_array(np.array(0, np.int8), f"z{number}"),
        ]
        nodes += [
            helper.make_node(
                "QuantizeLinear", [source, f"s{number}", f"z{number}"], [f"q{number}"]
            ),
            helper.make_node(
                "DequantizeLinear", [f"q{number}", f"s{number}", f"z{number}"], [f"d{number}"]
            ),
            helper.make_node("DequantizeLinear", [f"w{number}", f"ws{number}"], [f"dw{number}"]),
            helper.make_node(
                "MatMul", [f"d{number}", f"dw{number}"], [f"y{number}"], name=f"matmul{number}"
            ),
        ]
    shape: list[str | int | None] = ["rows", 4]
    graph = helper.make_graph(
        nodes,
        "two matmuls",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y2", TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def outputs(model: onnx.ModelProto) -> np.ndarray:
    """What the graph gives for a few numbers that 8 bits cannot hold."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": NUMBERS})[0])


def test_matmuls_left_in_bf16_read_what_was_not_rounded() -> None:
    """Named matmuls lose the rounding of their activations, and only those."""
    model = quantized_graph()
    exact = NUMBERS

    assert quantized_matmuls(model) == ["matmul1", "matmul2"]
    assert np.allclose(outputs(left_in_bf16(model, ["matmul1", "matmul2"])), exact, atol=1e-6)
    assert np.allclose(outputs(left_in_bf16(model, ["matmul2"])), np.round(exact, 1), atol=1e-6)
    assert quantized_matmuls(left_in_bf16(model, ["matmul2"])) == ["matmul1"]
    assert quantized_matmuls(model) == ["matmul1", "matmul2"]


def test_sweep_puts_the_most_sensitive_matmul_first() -> None:
    """The second matmul rounds twice as coarsely, so leaving it in bf16 helps most."""
    model = quantized_graph()
    exact = NUMBERS

    assert sweep(model, lambda tried: float(np.abs(outputs(tried) - exact).mean())) == [
        "matmul2",
        "matmul1",
    ]


@needs_bf16
def test_int8_ranges_come_from_texts_and_hold_for_others(
    reduced: Path, trained_alone: Path, tmp_path: Path
) -> None:
    """A graph in 8 bits scores nearly like fp32, and a text alone as among others."""
    texts = texts_of(trained_alone)
    plain = reduced / "narrative.onnx"
    quantize(plain, tmp_path / "int8.onnx", [text.ids for text in texts[:16]])
    assert quantized_matmuls(onnx.load(tmp_path / "int8.onnx"))
    opened = Checkpoint.open(trained_alone)
    tokenizer = load_tokenizer(opened.files.tokenizer.read_bytes(), "tokenizer.json")
    shutil.copyfile(plain, tmp_path / "fp32.onnx")

    about = opened.info.tasks["narrative"]
    outputs = {"narrative": KINDS[about.kind].output(len(about.labels))}

    def runner(name: Precision) -> GraphRunner:
        graph = GraphFile.of_path(tmp_path / f"{name}.onnx")
        session = TaskSession(OpenGraph.open(graph, choose_device("cpu"), precision=name), outputs)
        return GraphRunner(
            session, tokenizer, max_tokens=opened.info.max_tokens, pad_id=opened.info.pad_id
        )

    expected, logits = logits_of(runner("fp32"), texts), logits_of(runner("int8"), texts)
    assert np.corrcoef(expected.ravel(), logits.ravel())[0, 1] > 0.95
    assert np.array_equal(logits_of(runner("int8"), texts[::-1])[::-1], logits)
    assert np.array_equal(logits_of(runner("int8"), texts[3:4])[0], logits[3])


@needs_int8
def test_int8_leaves_as_few_matmuls_in_bf16_as_it_may(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first that reaches the wanted share, else the first that passes, else it is left out."""
    words = [str(small), "--output", str(tmp_path / "bundle"), "--precision", "int8"]
    with caplog.at_level("INFO", logger="exporter"):
        result = CliRunner().invoke(main, words)
    tries: list[tuple[int, float, bool]] = []
    for line in caplog.messages:
        tried = re.match(
            r"int8: (\d+) MatMul nodes in bf16, ([\d.]+) % of the texts have (.*)", line
        )
        if tried:
            tries.append((int(tried[1]), float(tried[2]), tried[3] == "other answers"))
        elif line.startswith("narrative, int8:"):
            break
    passing = [number for number, _, passes in tries if passes]
    wanted = [number for number, share, passes in tries if passes and share <= 0.5]

    assert result.exit_code == 0, result.output
    numbers = [number for number, _, _ in tries]
    assert numbers[:2] == [0, 1][: len(numbers)]
    assert numbers == sorted(set(numbers))
    assert tries
    assert not wanted or wanted == numbers[-1:]
    if "int8" in Bundle.open(tmp_path / "bundle").precisions(("narrative",)):
        cost = scorer_of(tmp_path / "bundle", precision="int8").metadata.cost
        assert cost is not None
        assert len(cost.kept_nodes) == [*wanted, *passing][0]
