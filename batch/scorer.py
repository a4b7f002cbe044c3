"""From model texts to probabilities and decided labels: tokenise once, pack, run, decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from batch.cache import LogitCache
from batch.device import Device
from batch.packing import BatchShapes
from batch.session import TaskSession
from schemas.bundle import Bundle
from schemas.decision import FloatArray, calibrate, decide
from schemas.errors import BundleError
from schemas.metadata import ArtefactMetadata
from schemas.tasks import BoolArray
from schemas.text import ModelText
from schemas.tokens import IdArray, TextTokenizer, TokenisedText
from schemas.variants import Precision

TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 16384}
"""Default batch size by kind of device: what keeps it busy without taking memory for nothing."""

OnBatch = Callable[[int, int], None]
"""Called after each batch with its rows and its tokens; may raise to stop."""


@dataclass(frozen=True)
class Scored:
    """Results in the order of the texts.

    probabilities, decided: (rows, labels). tokens: (rows,) int32, special tokens included.
    truncated: (rows,) bool.
    """

    probabilities: FloatArray
    decided: BoolArray
    tokens: IdArray
    truncated: BoolArray


_NOTHING: FloatArray = np.zeros(0, dtype=np.float32)


def _ignore(rows: int, tokens: int) -> None:
    """An OnBatch that does nothing."""


def load_tokenizer(path: Path) -> Tokenizer:
    """Open a tokenizer.json. Raises BundleError."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises plain Exception
        raise BundleError(f"{path}: not a tokenizer file: {error}") from error


class LogitRunner:
    """A session with its tokenizer and its batch shapes: texts in, logits out.

    tokens_per_batch: None takes the default of the device. cache: logits that are known already.
    """

    def __init__(
        self,
        session: TaskSession,
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        pad_id: int,
        tokens_per_batch: int | None = None,
        cache: LogitCache | None = None,
    ) -> None:
        self.tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH[session.device.kind]
        self.shapes = BatchShapes(max_tokens, self.tokens_per_batch)
        self.pad_id = pad_id
        self.device = session.device
        self._session = session
        self._cache = cache
        self._tokenizer = TextTokenizer(tokenizer, max_tokens=max_tokens)

    def tokenise(self, texts: Sequence[ModelText]) -> list[TokenisedText]:
        """Token ids of every text."""
        return list(self._tokenizer.encode(texts))

    def logits(self, texts: Sequence[TokenisedText], *, on_batch: OnBatch = _ignore) -> FloatArray:
        """Run every text, identical ones once. Returns (rows, labels) float32, rows as given."""
        if not texts:
            raise ValueError("no texts to run")
        distinct: dict[bytes, int] = {}
        place = [distinct.setdefault(text.ids.tobytes(), len(distinct)) for text in texts]
        copies = np.bincount(place, minlength=len(distinct))
        ids = [np.frombuffer(key, dtype=np.int32) for key in distinct]
        if self._cache is None:
            return np.stack(self._run(ids, copies, on_batch))[place]
        known = self._cache.get(ids)
        fresh = [row for row, logits in enumerate(known) if logits is None]
        on_batch(len(texts) - int(copies[fresh].sum()), 0)
        found = self._run([ids[row] for row in fresh], copies[fresh], on_batch)
        self._cache.put([ids[row] for row in fresh], found)
        results = iter(found)
        return np.stack([next(results) if row is None else row for row in known])[place]

    def _run(
        self, ids: Sequence[IdArray], copies: npt.NDArray[np.int64], on_batch: OnBatch
    ) -> list[FloatArray]:
        """Logits of each text, (labels,) float32. copies: (rows,), how often a text is there."""
        results: list[FloatArray] = [_NOTHING] * len(ids)
        for packed in self.shapes.pack(ids, pad_id=self.pad_id):
            logits = self._session.run(packed.input_ids, packed.attention_mask)
            for row, result in zip(packed.rows, logits, strict=False):  # dummy rows are left over
                results[row] = result
            on_batch(int(copies[packed.rows].sum()), sum(len(ids[row]) for row in packed.rows))
        return results


class Scorer:
    """One task of a bundle, ready: model texts in, probabilities and decided labels out."""

    def __init__(self, runner: LogitRunner, metadata: ArtefactMetadata) -> None:
        self.runner = runner
        self.metadata = metadata

    def score(self, texts: Sequence[ModelText], *, on_batch: OnBatch = _ignore) -> Scored:
        """Probabilities and decided labels of every text, in the order of `texts`."""
        return self.score_tokens(self.runner.tokenise(texts), on_batch=on_batch)

    def score_tokens(
        self, tokenised: Sequence[TokenisedText], *, on_batch: OnBatch = _ignore
    ) -> Scored:
        """The same for texts that are tokenised already."""
        labels = len(self.metadata.labels)
        if not tokenised:
            nothing = np.zeros((0, labels), dtype=np.float32)
            return Scored(
                nothing, nothing.astype(np.bool_), np.zeros(0, np.int32), np.zeros(0, np.bool_)
            )
        logits = self.runner.logits(tokenised, on_batch=on_batch)
        probabilities = calibrate(logits, self.metadata.calibration)
        return Scored(
            probabilities=probabilities,
            decided=decide(probabilities, self.metadata.threshold_array),
            tokens=np.array([len(text.ids) for text in tokenised], dtype=np.int32),
            truncated=np.array([text.truncated for text in tokenised], dtype=np.bool_),
        )


def open_scorer(
    bundle: Bundle,
    task: str,
    device: Device,
    *,
    precision: Precision,
    threads: int = 0,
    tokens_per_batch: int | None = None,
    cache: LogitCache | None = None,
) -> Scorer:
    """Open one task of a bundle after checking its files.

    cache: made for this very model (`batch.cache.model_identity`).
    Raises UsageError for an unknown task, BundleError if a file was changed, or if the tokenizer
    is not the one that the graph was exported with.
    """
    path = bundle.onnx(task, precision)
    session = TaskSession(path, device, threads=threads, precision=precision)
    metadata = session.metadata()
    path = bundle.tokenizer()
    found = bundle.manifest.files[path.name].sha256
    if found != metadata.tokenizer_sha256:
        raise BundleError(
            f"{path}: is not the tokenizer that task {task!r} was exported with: sha256 "
            f"{found[:12]}..., expected {metadata.tokenizer_sha256[:12]}...",
            hint="take graph and tokenizer from the same bundle",
        )
    runner = LogitRunner(
        session,
        load_tokenizer(path),
        max_tokens=metadata.max_tokens,
        pad_id=metadata.pad_id,
        tokens_per_batch=tokens_per_batch,
        cache=cache,
    )
    return Scorer(runner, metadata)
