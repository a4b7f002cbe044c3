"""Engines run batches side by side, with the bits of one batch after the other."""

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
from batch.engines.spares import Spares
from batch.machine.cores import MOST_STREAMS, streams_of
from batch.machine.device import Device, choose_device
from batch.scoring.runner import GraphRunner, load_tokenizer
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import ENGINES, EngineName, Precision
from schemas.text.model_text import ModelText
from tests.label_tasks import logits_of, open_file

CPU = choose_device("cpu")
WAYS: list[tuple[EngineName, Precision]] = [
    (engine, precision) for precision in ENGINES for engine in ENGINES[precision]
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
def test_the_first_batches_may_come_at_the_same_time(bundle: Path, engine: str) -> None:
    """Eight threads that begin together all get an answer, the same one."""
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
def test_streams_leave_every_bit(
    bundle: Path, engine: EngineName, precision: Precision, threads: int
) -> None:
    """One batch after the other by one thread, and several at a time, score alike."""
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


def test_a_batch_after_which_a_run_stops_is_the_last_but_few(bundle: Path) -> None:
    """What is raised between batches comes out as it is, and the scorer can be used again."""
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


def test_what_failed_is_not_lent_again() -> None:
    """One thing is used over and over, until a block that has it fails."""
    spares = Spares(lambda: [0])
    for _ in range(3):
        with spares.borrowed() as thing:
            thing[0] += 1
    with pytest.raises(ValueError, match="broken"), spares.borrowed() as thing:
        raise ValueError("broken")

    assert thing == [3]
    with spares.borrowed() as another:
        assert another == [0]
    assert spares.free == ([0],)


def test_many_threads_share_few_streams(bundle: Path) -> None:
    """Where there are more cores than batches at a time, they help each other."""
    graph = GraphFile.of_bundle(Bundle.open(bundle), ("narrative",), "fp32")
    session = open_engine(graph, CPU, "onnxruntime", precision="fp32", threads=MOST_STREAMS + 4)
    ones = np.ones((2, 16), np.int64)
    (expected,) = session.run(ones, ones, ["logits"])
    with ThreadPoolExecutor(MOST_STREAMS) as threads:
        found = list(threads.map(lambda _: session.run(ones, ones, ["logits"])[0], range(64)))

    assert session.streams == streams_of(MOST_STREAMS + 4) == MOST_STREAMS
    assert all(np.array_equal(one, expected) for one in found)


@pytest.mark.parametrize(("engine", "precision"), WAYS)
def test_an_engine_is_usable_where_nothing_speaks_against_it(
    engine: EngineName, precision: Precision
) -> None:
    """In the order of their speed; on CUDA there is onnxruntime alone."""
    found = usable_engines(precision, CPU)

    assert (engine in found) == (engine_problem(engine, precision) is None)
    assert list(found) == sorted(found, key=ENGINES[precision].index)
    assert usable_engines(precision, Device("cuda", 0, "test")) == ("onnxruntime",)


def test_a_graph_that_openvino_cannot_open_goes_to_onnxruntime(tmp_path: Path) -> None:
    """It does not know every operation: here one of onnxruntime's own."""
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
    """It is an extra: nothing else changes where it is not installed."""
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
