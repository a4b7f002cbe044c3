"""Recording of probes, and how much their logits differ between engines and batch shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from batch.engines.versions import engine_and_cpu
from batch.scoring.runner import GraphRunner
from batch.scoring.session import TaskSession
from exporter.checks.torch_outputs import RunTorch
from schemas.arrays import Float32Array
from schemas.bundle.facts import Portability
from schemas.bundle.probes import Probes
from schemas.text.model_text import Article, ModelText, TextSpec, model_text
from schemas.text.tokens import TokenizedText, pad

PROBES = 16
MARGIN = 10.0
"""Factor between the measured difference and the one allowed on other machines: measured are
different libraries and batch shapes, not different processors."""
LEAST_BOUND = 1e-6
"""About what a float32 logit of 10 can be off by in its last bit."""


def probe_texts(tokenizer: Tokenizer, spec: TextSpec, *, max_tokens: int) -> tuple[ModelText, ...]:
    """Texts of random pieces of the vocabulary, from one piece to more than fit.

    They are the same for every checkpoint with that tokenizer, so that nothing of the texts it was
    trained on gets into a bundle. For a task that marks entities, a piece in the middle is marked.
    """
    rng = np.random.default_rng(0)
    pieces = sorted(tokenizer.get_vocab(with_added_tokens=False).values())
    texts = []
    for length in np.geomspace(1, 1.25 * max_tokens, PROBES).astype(int):
        chosen = rng.choice(pieces, size=length).tolist()
        text = tokenizer.decode(chosen, skip_special_tokens=True).strip() or "a"
        place = len(text) // 2
        article = Article(text=text, start=place, end=min(place + 8, len(text)))
        texts.append(model_text(article, spec, max_tokens=max_tokens))
    return tuple(texts)


def record_probes(
    sessions: Sequence[TaskSession],
    run_torch: RunTorch,
    runner: GraphRunner,
    task: str,
    texts: tuple[ModelText, ...],
) -> tuple[Probes, Portability]:
    """Run the probes in canonical batches, one by one by every engine, and one by one by torch.

    sessions: of the same file, the first of them that of the runner, which reads without windows.
    The bundle keeps the outputs of the canonical batches; the largest difference to the others
    gives the bound for other machines.
    """
    tokenized = tuple(runner.tokenize(texts))
    (recorded,) = runner.outputs(tokenized)
    worst = max(
        float(np.abs(alone - output).max())
        for text, output in zip(tokenized, recorded, strict=True)
        for alone in _alone(sessions, run_torch, runner, text)
    )
    portability = Portability(
        texts=len(texts),
        machine=engine_and_cpu(runner.engine),
        max_logit_difference=worst,
        bound=max(MARGIN * worst, LEAST_BOUND),
    )
    return Probes(runner.graph.name, task, texts, tokenized, tuple(recorded)), portability


def _alone(
    sessions: Sequence[TaskSession], run_torch: RunTorch, runner: GraphRunner, text: TokenizedText
) -> Iterator[Float32Array]:
    """Outputs of one text in a batch of its own length, by torch and by every engine."""
    inputs = pad([text.ids], rows=1, seq=len(text.ids), pad_id=runner.pad_id)
    with torch.inference_mode():
        yield run_torch(*map(torch.from_numpy, inputs)).numpy()[0]
    for session in sessions:
        (output,) = session.run(*inputs)
        yield output[0]
