"""A scoring backend as a separate process:
`python -m bench.scoring.backend BACKEND MODEL TASK [DEVICE]`.

BACKEND is `pipeline`, `torch-sorted` or `sentence-transformers`, and MODEL the folder of a
transformers model; or BACKEND is a precision and MODEL a bundle. DEVICE is `cpu` (the default) or
`cuda`, where the peers run in fp16. Answers every line "PARQUET ROWS" with the seconds from texts
to probabilities and the peak memory so far. A backend imports only what it needs, so that its
memory can be measured.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

MAX_TOKENS = 512
PIPELINE_ROWS = 32
SENTENCE_ROWS = 256
TOKENS_PER_BATCH = 2048

Score = Callable[[Sequence[str]], None]


def pipeline(model: str, device: str) -> Score:
    """`transformers.pipeline` in its usual configuration: batches of 32 texts, unsorted."""
    import torch
    from transformers import pipeline as make_pipeline

    run = make_pipeline(
        "text-classification",
        model=model,
        device=device,
        dtype=torch.float16 if device == "cuda" else torch.float32,
        top_k=None,
        function_to_apply="sigmoid",
        batch_size=PIPELINE_ROWS,
        truncation=True,
        max_length=MAX_TOKENS,
    )

    def score(texts: Sequence[str]) -> None:
        run(list(texts))

    return score


def torch_sorted(model: str) -> Score:
    """Torch in fp32, texts sorted by length, batches of about 2,048 tokens."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network = AutoModelForSequenceClassification.from_pretrained(
        model, trust_remote_code=False
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)

    def score(texts: Sequence[str]) -> None:
        ids = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        first = 0
        while first < len(order):
            last = first + 1
            while last < len(order) and (last + 1 - first) * len(ids[order[last]]) <= (
                TOKENS_PER_BATCH
            ):
                last += 1
            rows = [{"input_ids": ids[row]} for row in order[first:last]]
            batch = tokenizer.pad(rows, return_tensors="pt")
            with torch.inference_mode():
                torch.sigmoid(network(**batch).logits).numpy()
            first = last

    return score


def sentence_transformers(model: str, device: str) -> Score:
    """SentenceTransformer.encode, which sorts texts by length: embeddings only, no labels."""
    import torch
    from sentence_transformers import SentenceTransformer

    network = SentenceTransformer(model, device=device)  # a plain encoder gets mean pooling
    network.max_seq_length = MAX_TOKENS
    network.to(torch.float16 if device == "cuda" else torch.float32)

    def score(texts: Sequence[str]) -> None:
        network.encode(list(texts), batch_size=SENTENCE_ROWS, show_progress_bar=False)

    return score


def narrascan(bundle: str, task: str, precision: str, device_name: str) -> Score:
    """The scorer of `batch-classify`, with its default batches and chunks."""
    from batch.machine.device import choose_device
    from batch.options import CHUNK_ROWS
    from batch.scoring.precision import choose_precision
    from batch.scoring.prefetch import make_ahead
    from batch.scoring.scorer import open_scorer
    from schemas.bundle.folder import Bundle
    from schemas.text.model_text import Article, model_text
    from schemas.text.tokens import TokenizedText

    source, device = Bundle.open(Path(bundle)), choose_device(device_name)
    available = choose_precision(source, (task,), device, precision)
    scorer = open_scorer(source, (task,), device, precision=available)
    spec, max_tokens = scorer.metadata.text, scorer.metadata.max_tokens

    def tokenize(texts: Sequence[str]) -> list[TokenizedText]:
        return scorer.runner.tokenize(
            [model_text(Article(text), spec, max_tokens=max_tokens) for text in texts]
        )

    def score(texts: Sequence[str]) -> None:
        size = CHUNK_ROWS[device.kind]
        chunks = [texts[first : first + size] for first in range(0, len(texts), size)]
        at_once = scorer.runner.chunks_at_once
        for _ in make_ahead(make_ahead(chunks, tokenize), scorer.score_tokens, threads=at_once):
            pass

    return score


def peak_mb() -> float:
    """Peak resident memory of this process, as reported by the Linux kernel."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def main() -> None:
    """Load the backend, then answer lines of stdin until it is closed."""
    import pyarrow.parquet as pq

    backend, model, task, device = (*sys.argv[1:], "cpu")[:4]
    if backend == "pipeline":
        score = pipeline(model, device)
    elif backend == "torch-sorted":
        score = torch_sorted(model)
    elif backend == "sentence-transformers":
        score = sentence_transformers(model, device)
    else:
        score = narrascan(model, task, backend, device)
    answers = sys.stdout
    sys.stdout = sys.stderr  # some libraries print
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        path, rows = line.split()
        texts = pq.read_table(path, columns=["text"])["text"].to_pylist()[: int(rows)]
        started = time.perf_counter()
        score(texts)
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
