"""What the benchmark on CUDA promises where there is none: it says so, and its page does too."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch.device import choose_device, cuda_problem
from batch.scorer import Scored, open_scorer
from bench import gpu
from schemas.bundle import Bundle

RECORD = gpu.Record(
    gpu="GPU of a test",
    versions={"onnxruntime": "1.2.3"},
    articles=4096,
    rounds=5,
    batch_size=64,
    articles_per_s={
        "narrascan fp16": 3000.0,
        "transformers.pipeline fp16": 1500.0,
    },
)


@pytest.mark.skipif(cuda_problem() is None, reason="CUDA works here")
def test_without_cuda_the_benchmark_ends_at_once() -> None:
    """Exit 1 with what is missing, before a bundle is looked for."""
    result = CliRunner().invoke(gpu.main, ["--bundle", "nowhere"])

    assert result.exit_code == 1
    assert result.output.startswith("Error: this benchmark needs CUDA: ")
    assert not gpu.RESULTS.exists()


def test_the_page_says_that_nothing_was_run() -> None:
    """Until there are results beside it."""
    shown = gpu.PAGE.read_text(encoding="utf-8")

    assert gpu.RESULTS.exists() or shown == gpu.page(None)
    assert "Not yet run" in gpu.page(None)


def test_the_page_gives_speeds_against_the_pipeline() -> None:
    """As articles a second and as a ratio."""
    shown = gpu.page(RECORD)

    assert "Not yet run" not in shown
    assert "| narrascan fp16 | 3,000 | 2.00 |" in shown
    assert "GPU of a test; onnxruntime 1.2.3. 4,096 articles" in shown


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    """Each round every contender scores every text once; medians are of the later rounds."""
    turns: list[str] = []
    ticks = itertools.chain([0, 99, 0, 99], itertools.cycle([0, 2, 0, 4]))
    found = gpu.interleave(
        {
            "first": lambda texts: turns.append("first"),
            "other": lambda texts: turns.append("other"),
        },
        ["a", "b", "c", "d"],
        rounds=3,
        clock=lambda: float(next(ticks)),
    )

    assert turns == ["first", "other"] * 4
    assert found == {"first": 2.0, "other": 1.0}


def test_both_sides_score_the_same_texts(bundle: Path, checkpoint: Path) -> None:
    """On a CPU here: the same texts, the same labels, long texts cut and not refused."""
    device, opened = choose_device("cpu"), Bundle.open(bundle)
    scorer = open_scorer(opened, "narrative", device, precision="fp32")
    texts = ["Aid is wasted by officials.", "Talks now, or war for ever. " * 60]
    own = gpu.ours(scorer)(texts)
    other = gpu.theirs(scorer, checkpoint, opened.files.tokenizer, device, 2)(texts)

    assert isinstance(own, Scored)
    assert isinstance(other, list)
    assert own.truncated.tolist() == [False, True]
    assert [len(row) for row in other] == [own.probabilities.shape[1]] * 2
