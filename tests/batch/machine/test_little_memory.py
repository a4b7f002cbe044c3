"""A chunk that does not fit into memory is halved, with the same output."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch.corpus.sources.hashing import fingerprint_file
from batch.machine.device import Device
from batch.options import CorpusOptions, ModelOptions, OutputOptions, RunOptions
from batch.output.identity import RunIdentity
from batch.output.locked import lock_output
from batch.pipeline.chunks import ChunkWorker, do_chunks
from batch.pipeline.progress import JsonProgress
from batch.pipeline.run import Model, identify_model, plan_run
from batch.pipeline.stop import StopSwitch
from batch.scoring.runner import GraphRunner, OnBatch, TextOutputs, ignore_batch, load_tokenizer
from batch.scoring.scorer import Scorer
from batch.scoring.session import open_session
from schemas.bundle.folder import Bundle
from schemas.errors import OutOfMemoryError
from schemas.text.tokens import TokenizedText

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Contents = Callable[[Path], dict[str, bytes]]

LIMITED = """
import resource, sys
import pyarrow.parquet, onnxruntime, tokenizers
import batch.pipeline.run  # what the code itself takes is not limited
from batch.cli import main
from batch.engines.openvino import openvino_problem
openvino_problem("fp32")
used = [line.split() for line in open("/proc/self/status") if line.startswith("VmData")]
limit = int(used[0][1]) * 1024 + {0}
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
main()
"""


class NarrowRunner(GraphRunner):
    """Runs out of memory for more than so many texts at once."""

    most_texts = 5

    def outputs(
        self, texts: Sequence[TokenizedText], *, on_batch: OnBatch = ignore_batch
    ) -> TextOutputs:
        outputs = super().outputs(texts, on_batch=on_batch)
        if len(texts) > self.most_texts:
            raise MemoryError
        return outputs


@pytest.fixture
def narrow(bundle: Path) -> Scorer:
    """The tiny bundle's task `narrative`, with memory for five texts at once."""
    opened = Bundle.open(bundle)
    cpu = Device("cpu", 0, "test")
    session, (metadata,) = open_session(opened, ("narrative",), cpu, precision="fp32", threads=1)
    tokenizer = load_tokenizer(opened.read_tokenizer(), "tokenizer.json")
    runner = NarrowRunner(
        session, tokenizer, max_tokens=metadata.max_tokens, pad_id=metadata.pad_id
    )
    return Scorer(runner, (metadata,))


def do(corpus: Path, output: Path, bundle: Path, scorer: Scorer) -> ChunkWorker:
    """Score a whole corpus in chunks of 20 rows."""
    options = RunOptions(
        ModelOptions(bundle, "narrative"),
        CorpusOptions((str(corpus),), chunk_rows=20),
        OutputOptions(output),
    )
    plan, progress = plan_run(options.corpus, scorer), _Quiet()
    model = Model(Bundle.open(bundle), ("narrative",), scorer.runner.device, "fp32")
    fingerprints = {file.source.name: fingerprint_file(file.source) for file in plan.files}
    identity = RunIdentity.of(
        options, plan, identify_model(model, scorer), model.bundle, fingerprints
    )
    with lock_output(output, chunks=len(plan.chunks), overwrite=False) as writer:
        worker = ChunkWorker(
            plan, options.corpus, "map", scorer, writer, identity, progress, StopSwitch()
        )
        do_chunks(worker, plan.chunks, progress)
    return worker


class _Quiet(JsonProgress):
    def note(self, event: str, message: str, **facts: object) -> None:
        """Say nothing."""


def test_a_halved_chunk_has_the_same_output(
    sample: pa.Table,
    write: Write,
    score: Score,
    bundle: Path,
    narrow: Scorer,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """Parts, quarantine and markers are those of a run with sufficient memory."""
    texts = [text.encode() for text in sample.column("text").to_pylist()]
    texts[3], texts[9], texts[25] = b"\xff", b"", b"\xff"
    topics = pa.array([f"{row // 7}" for row in range(48)]).dictionary_encode()
    rows = sample.set_column(2, "text", pa.array(texts)).append_column("topic", topics)
    corpus = write(rows, row_group_size=11)
    worker = do(corpus, tmp_path / "narrow", bundle, narrow)
    score(corpus, output=tmp_path / "wide", chunk_rows=20, max_quarantined=1, precision="fp32")
    halved, whole = contents(tmp_path / "narrow"), contents(tmp_path / "wide")
    names = [name for name in whole if "part-" in name or "done/" in name]

    assert len(names) == 3 + 2 + 3
    assert {name: halved[name] for name in names} == {name: whole[name] for name in names}
    assert (worker.rows, worker.finished) == (48, {0, 1, 2})


def test_a_single_row_that_is_too_large_ends_the_run(
    sample: pa.Table, write: Write, bundle: Path, narrow: Scorer, tmp_path: Path
) -> None:
    """The message has its file and number."""
    corpus = write(sample)
    NarrowRunner.most_texts = 0
    try:
        with pytest.raises(OutOfMemoryError) as raised:
            do(corpus, tmp_path / "scored", bundle, narrow)
    finally:
        NarrowRunner.most_texts = 5

    assert f"{corpus}, row 0: not enough memory" in str(raised.value)
    assert "a smaller --max-tokens-per-batch" in str(raised.value)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
def test_a_real_memory_limit_is_handled(
    write: Write, score: Score, words: Words, tmp_path: Path, contents: Contents
) -> None:
    """900 texts of a megabyte each, encoded as one: 0.9 GB with a limit of 0.7 GB."""
    text = "Aid is wasted by officials. " * 37_000
    corpus = write({"text": pa.array([text] * 900)})
    options: dict[str, Any] = {"chunk_rows": 900, "threads": 1, "precision": "fp32"}
    command = words(corpus, **options, output=tmp_path / "limited")[1:]
    limited = [sys.executable, "-c", LIMITED.format(700 * 2**20), *command]
    result = subprocess.run(limited, capture_output=True, text=True, check=False)
    score(corpus, **options, output=tmp_path / "free")

    assert result.returncode == 0, result.stderr
    assert "out of memory" in result.stderr
    assert contents(tmp_path / "limited") == contents(tmp_path / "free")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
def test_an_engine_without_memory_for_one_batch_is_an_error(
    write: Write, words: Words, tmp_path: Path
) -> None:
    """Halving does not help, because a batch has a fixed shape; a smaller shape does."""
    corpus = write({"text": ["Aid is wasted by officials.", "Sanctions hurt us."]})
    command = words(corpus, max_tokens_per_batch=8_000_000, output=tmp_path / "scored")[1:]
    limited = [sys.executable, "-c", LIMITED.format(300 * 2**20), *command]
    result = subprocess.run(limited, capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert f"{corpus}, row 0: not enough memory" in result.stderr
    assert "a smaller --max-tokens-per-batch" in result.stderr
    assert "Traceback" not in result.stderr
