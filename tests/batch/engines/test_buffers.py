"""Bound buffers: the same numbers as a plain run, with memory that is allocated once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batch.cli import main
from batch.engines.graph_file import GraphFile
from batch.engines.onnxruntime import OnnxruntimeSession, provider_options
from batch.machine.device import CPU_PROVIDER, Device, import_engine
from schemas.bundle.folder import Bundle

CPU = Device("cpu", 0, "for tests")
OUTPUTS = ["logits.roles", "logits.site", "logits.narrative"]
SHAPES = [(3, 16), (1, 40), (3, 16), (2, 40), (1, 40), (3, 16)]


@pytest.fixture(scope="module")
def graph(joint_bundle: Path) -> GraphFile:
    """The file that three tasks share."""
    tasks = ("roles", "site", "narrative")
    return GraphFile.of_bundle(Bundle.open(joint_bundle), tasks, "fp32")


def batch(number: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens, the last row half padded."""
    input_ids = np.random.default_rng(number).integers(5, 700, shape)
    attention_mask = np.ones(shape, np.int64)
    attention_mask[-1, shape[1] // 2 :] = 0
    return input_ids, attention_mask


@pytest.mark.parametrize("outputs", [OUTPUTS, OUTPUTS[2:], OUTPUTS[1::-1]], ids=len)
def test_bound_buffers_give_bit_identical_outputs(graph: GraphFile, outputs: list[str]) -> None:
    """With alternating shapes, for all outputs, for one, and in another order."""
    session = OnnxruntimeSession(graph, CPU, threads=1)
    plain = import_engine().InferenceSession(graph.content(), providers=[CPU_PROVIDER])

    for number, shape in enumerate(SHAPES):
        input_ids, attention_mask = batch(number, shape)
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
        expected = plain.run(outputs, feeds)
        found = session.run(input_ids, attention_mask, outputs)

        assert [array.dtype for array in found] == [np.float32] * len(outputs)
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other)


def test_buffers_are_allocated_once_per_shape(graph: GraphFile) -> None:
    """Six batches of three shapes have three pairs of buffers."""
    session = OnnxruntimeSession(graph, CPU, threads=1)
    for number, shape in enumerate(SHAPES):
        session.run(*batch(number, shape), OUTPUTS)

    (buffers,) = session.buffers.idle
    assert len(buffers) == len(set(SHAPES))


def test_the_next_batch_does_not_change_results(graph: GraphFile) -> None:
    """Results are copies of the buffer, not views."""
    session = OnnxruntimeSession(graph, CPU, threads=1)
    (first,) = session.run(*batch(0, (3, 16)), OUTPUTS[:1])
    kept = first.copy()
    (second,) = session.run(*batch(1, (3, 16)), OUTPUTS[:1])

    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_inputs_need_not_be_contiguous(graph: GraphFile) -> None:
    """Every second row of an array has the scores of those rows."""
    session = OnnxruntimeSession(graph, CPU, threads=1)
    input_ids, attention_mask = batch(0, (6, 16))
    (apart,) = session.run(input_ids[::2], attention_mask[::2], OUTPUTS[:1])
    (copied,) = session.run(input_ids[::2].copy(), attention_mask[::2].copy(), OUTPUTS[:1])

    assert np.array_equal(apart, copied)


def test_provider_options_are_those_of_the_device() -> None:
    """CUDA uses fp32, one convolution algorithm, one stream and the memory limit."""
    always = {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "DEFAULT",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",
    }

    assert provider_options(CPU) == {}
    assert provider_options(Device("cuda", 1, "asked for")) == {"device_id": "1", **always}
    assert provider_options(Device("cuda", 0, "asked for", 8 * 10**9)) == {
        "device_id": "0",
        "gpu_mem_limit": "8000000000",
        **always,
    }


def test_the_gpu_memory_limit_reaches_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA is opened with `--gpu-memory-limit 8GB`; a CPU ignores it."""
    monkeypatch.setattr("batch.machine.device.cuda_problem", lambda index=0: None)
    from batch.machine.device import choose_device

    found = [choose_device(name, memory_bytes=8).memory_bytes for name in ("auto", "cuda:1", "cpu")]

    assert found == [8, 8, None]
    assert any("--gpu-memory-limit" in option.opts for option in main.commands["run"].params)
