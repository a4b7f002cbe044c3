"""Engines run batches concurrently, with bit-identical results."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from batch.engines import engine_problem, open_engine, open_fastest, usable_engines
from batch.engines.graph_file import GraphFile
from batch.engines.pool import Pool
from batch.machine.cores import MAX_STREAMS, streams_of
from batch.machine.device import Device, choose_device
from batch.scoring.runner import GraphRunner, load_tokenizer
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import PRECISION_SPECS, EngineName, Precision
from schemas.text.model_text import ModelText
from tests.label_tasks import logits_of, open_file

CPU = choose_device("cpu")
WAYS: list[tuple[EngineName, Precision]] = [
    (engine, precision)
    for precision in PRECISION_SPECS
    for engine in PRECISION_SPECS[precision].engines
]
HERE = [
    (engine, precision)
    for engine, precision in WAYS
    if precision in ("fp32", "bf16") and engine_problem(engine, precision) is None
]

FIRST_BATCHES = """
import sys, threading
from pathlib import Path
import numpy as np
from batch.machine.device import choose_device
from batch.engines import open_engine
from batch.engines.graph_file import GraphFile

graph = GraphFile.of_path(Path(sys.argv[1]))
session = open_engine(graph, choose_device("cpu"), sys.argv[2], precision="fp32", threads=8)
sys.setswitchinterval(1e-6)  # threads take turns wherever they can
start = threading.Barrier(8)
done = []

def run():
    ones = np.ones((2, 16), np.int64)
    start.wait()
    done.append(session.run(ones, ones, ["logits"])[0].tobytes())

threads = [threading.Thread(target=run) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
print(len(done), len(set(done)))
"""


def runner(bundle: Path, engine: EngineName, precision: Precision, threads: int) -> GraphRunner:
    """The task `narrative` by an engine, with batches of few rows."""
    opened = Bundle.open(bundle)
    graph = GraphFile.of_bundle(opened, ("narrative",), "fp32")
    session = open_file(graph, CPU, threads=threads, precision=precision, engine=engine)
    tokenizer = load_tokenizer(opened.read_tokenizer(), "tokenizer.json")
    return GraphRunner(session, tokenizer, max_tokens=128, pad_id=0, tokens_per_batch=64)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_first_batches_may_run_concurrently(bundle: Path, engine: str) -> None:
    """Eight threads that start at the same time all get the same result."""
    graph = bundle / "narrative.onnx"
    result = subprocess.run(
        [sys.executable, "-c", FIRST_BATCHES, str(graph), engine],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert result.stdout.split() == ["8", "1"]


@pytest.mark.parametrize(("engine", "precision"), HERE)
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_streams_give_bit_identical_scores(
    bundle: Path, engine: EngineName, precision: Precision, threads: int
) -> None:
    """One batch at a time on one thread, and several at the same time, have the same scores."""
    words = ["minister", "budget", "war", "and", "strike", "talks", "on", "the", "bank"]
    rng = np.random.default_rng(threads)
    texts = [
        ModelText(" ".join(rng.choice(words, size=length)), cut=False)
        for length in rng.integers(1, 90, size=60)
    ]
    one_by_one = runner(bundle, engine, precision, 1)
    together = runner(bundle, engine, precision, threads)
    tokenized = together.tokenize(texts)

    assert one_by_one.streams == 1
    assert together.streams == threads
    expected = logits_of(one_by_one, tokenized)
    for _ in range(3):
        assert np.array_equal(logits_of(together, tokenized), expected)


def test_a_stopped_run_starts_few_more_batches(bundle: Path) -> None:
    """The error is raised unchanged, and the scorer can be used again."""
    used = runner(bundle, "onnxruntime", "fp32", 2)
    texts = used.tokenize([ModelText("war " * length, cut=False) for length in range(1, 60)])
    seen = []

    def stop(rows: int, tokens: int) -> None:
        seen.append((rows, tokens))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        used.outputs(texts, on_batch=stop)

    assert len(seen) == 1
    assert len(logits_of(used, texts)) == 59


def test_the_pool_drops_an_object_after_an_error() -> None:
    """The same object is reused until a block that uses it fails."""
    pool = Pool(lambda: [0])
    for _ in range(3):
        with pool.borrowed() as item:
            item[0] += 1
    with pytest.raises(ValueError, match="broken"), pool.borrowed() as item:
        raise ValueError("broken")

    assert item == [3]
    with pool.borrowed() as another:
        assert another == [0]
    assert pool.idle == ([0],)


def test_many_threads_share_few_streams(bundle: Path) -> None:
    """With more cores than streams, several threads compute one batch."""
    graph = GraphFile.of_bundle(Bundle.open(bundle), ("narrative",), "fp32")
    session = open_engine(graph, CPU, "onnxruntime", precision="fp32", threads=MAX_STREAMS + 4)
    ones = np.ones((2, 16), np.int64)
    (expected,) = session.run(ones, ones, ["logits"])
    with ThreadPoolExecutor(MAX_STREAMS) as threads:
        found = list(threads.map(lambda _: session.run(ones, ones, ["logits"])[0], range(64)))

    assert session.streams == streams_of(MAX_STREAMS + 4) == MAX_STREAMS
    assert all(np.array_equal(one, expected) for one in found)


@pytest.mark.parametrize(("engine", "precision"), WAYS)
def test_usable_engines_are_those_without_a_problem(
    engine: EngineName, precision: Precision
) -> None:
    """In the order of their speed; CUDA has onnxruntime only."""
    found = usable_engines(precision, CPU)

    assert (engine in found) == (engine_problem(engine, precision) is None)
    assert list(found) == sorted(found, key=PRECISION_SPECS[precision].engines.index)
    assert usable_engines(precision, Device("cuda", 0, "test")) == ("onnxruntime",)


def test_onnxruntime_opens_a_graph_that_openvino_cannot_open(tmp_path: Path) -> None:
    """OpenVINO does not support every operation: here one of onnxruntime's own."""
    names = ["input_ids", "attention_mask"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["r", "s"]) for n in names]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["r", 3])]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ExpandDims", ["x", "axis"], ["wide"], domain="com.microsoft"),
        helper.make_node("Squeeze", ["wide"], ["logits"]),
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    axis = helper.make_tensor("axis", TensorProto.INT32, [], [0])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [axis])
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)

    engine, session = open_fastest(GraphFile.of_path(path), CPU, precision="fp32", threads=1)
    ones = np.ones((2, 3), np.int64)

    assert engine == "onnxruntime"
    assert session.run(ones, ones, ["logits"])[0].shape == (2, 3)


def test_without_openvino_onnxruntime_runs_fp32() -> None:
    """OpenVINO is an optional extra."""
    code = (
        "import sys; sys.modules['openvino'] = None; "
        "from batch.machine.device import choose_device; "
        "from batch.engines import usable_engines; "
        "print(*usable_engines('fp32', choose_device('cpu')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "onnxruntime"
