"""From model texts to probabilities and decided labels: tokenize once, pack, run, decide."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from batch.machine.device import Device
from batch.scoring.cache import LogitCache
from batch.scoring.packing import BatchShapes, PackedBatch
from batch.scoring.prefetch import make_ahead
from batch.scoring.session import TaskSession, open_session
from schemas.arrays import BoolArray, Float32Array, Int32Array
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.variants import EngineName, Precision
from schemas.decision.decide import calibrate, decide
from schemas.errors import BundleError, listing
from schemas.printable import one_line, printable
from schemas.text.model_text import ModelText
from schemas.text.tokens import TEXTS_PER_CALL, TextTokenizer, TokenizedText

TOKENS_PER_BATCH = {"cpu": 512, "cuda": 8192}
"""Default batch size by kind of device: what keeps it busy without taking memory for nothing. The
layers of a batch stay in the cache of a core, and of what is left over few rows are dummies."""

TOKENIZER_THREADS = 2
"""Threads that call the tokenizer where a GPU scores. A call keeps every core busy but for its part
in Python, which overlaps with the other thread. Where a CPU scores, no core is idle."""

OnBatch = Callable[[int, int], None]
"""Called after each batch with its rows and its tokens; may raise to stop."""


@dataclass(frozen=True)
class Scored:
    """Results in the order of the texts.

    probabilities, decided: (rows, labels), the labels of all tasks side by side.
    tokens: (rows,) int32, special tokens included.
    truncated: (rows,) bool.
    """

    probabilities: Float32Array
    decided: BoolArray
    tokens: Int32Array
    truncated: BoolArray


_NOTHING: Float32Array = np.zeros(0, dtype=np.float32)


def _ignore(rows: int, tokens: int) -> None:
    """An OnBatch that does nothing."""


def load_tokenizer(content: bytes, label: str) -> Tokenizer:
    """Open the content of a tokenizer.json. Raises BundleError. label: its path, for messages."""
    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the Rust side raises plain Exception
        raise BundleError(f"{label}: not a tokenizer file: {one_line(error)}") from error


class LogitRunner:
    """A session with its tokenizer and its batch shapes: texts in, logits out.

    tokens_per_batch: None takes the default of the device.
    cache: logits that are known already, made for these tasks of this file and for the engine
    (`batch.scoring.cache.model_identity`); none unless it is set.
    """

    def __init__(
        self,
        session: TaskSession,
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        pad_id: int,
        tokens_per_batch: int | None = None,
    ) -> None:
        self.tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH[session.device.kind]
        self.shapes = BatchShapes(max_tokens, self.tokens_per_batch)
        self.pad_id = pad_id
        self.device = session.device
        self.engine = session.engine
        self.streams = session.streams
        self.graph = session.graph
        self._session = session
        self.cache: LogitCache | None = None
        try:
            self._tokenizer = TextTokenizer(tokenizer, max_tokens=max_tokens)
        except OverflowError as error:
            raise self._number_error(error) from error
        # Starts the tokenizer's threads while there is memory for them; later it would panic.
        self.tokenize([ModelText("warm up", cut=False)] * 2)

    def tokenize(self, texts: Sequence[ModelText]) -> list[TokenizedText]:
        """Token ids of every text. Raises BundleError for a tokenizer whose ids are no int32."""
        try:
            if self.device.kind == "cpu":
                return self._encode(texts)
            groups = (texts[i : i + TEXTS_PER_CALL] for i in range(0, len(texts), TEXTS_PER_CALL))
            with closing(make_ahead(groups, self._encode, threads=TOKENIZER_THREADS)) as encoded:
                return list(chain.from_iterable(encoded))
        except OverflowError as error:
            raise self._number_error(error) from error

    def _number_error(self, error: OverflowError) -> BundleError:
        return BundleError(
            f"{self.graph.label}: its tokenizer numbers a token too high: {error}",
            hint="export the checkpoint again",
        )

    def _encode(self, texts: Sequence[ModelText]) -> list[TokenizedText]:
        return list(self._tokenizer.encode(texts))

    def logits(
        self, texts: Sequence[TokenizedText], *, on_batch: OnBatch = _ignore
    ) -> Float32Array:
        """Run every text, identical ones once. Returns (rows, labels) float32, rows as given."""
        if not texts:
            raise ValueError("no texts to run")
        distinct: dict[bytes, int] = {}
        place = [distinct.setdefault(text.ids.tobytes(), len(distinct)) for text in texts]
        copies = np.bincount(place, minlength=len(distinct))
        ids = [np.frombuffer(key, dtype=np.int32) for key in distinct]
        if self.cache is None:
            return np.stack(self._run(ids, copies, on_batch))[place]
        known = self.cache.get(ids)
        fresh = [row for row, logits in enumerate(known) if logits is None]
        on_batch(len(texts) - int(copies[fresh].sum()), 0)
        found = self._run([ids[row] for row in fresh], copies[fresh], on_batch)
        self.cache.put([ids[row] for row in fresh], found)
        results = iter(found)
        return np.stack([next(results) if row is None else row for row in known])[place]

    def _run(
        self, ids: Sequence[Int32Array], copies: npt.NDArray[np.int64], on_batch: OnBatch
    ) -> list[Float32Array]:
        """Logits of each text, (labels,) float32. copies: (rows,), how often a text is there."""
        results: list[Float32Array] = [_NOTHING] * len(ids)
        with closing(self.run_batches(self.shapes.pack(ids, pad_id=self.pad_id))) as finished:
            for packed, logits in finished:
                for row, result in zip(packed.rows, logits, strict=False):  # dummies are left over
                    results[row] = result
                on_batch(int(copies[packed.rows].sum()), sum(len(ids[row]) for row in packed.rows))
        return results

    def run_batches(
        self, batches: Iterable[PackedBatch]
    ) -> Generator[tuple[PackedBatch, Float32Array]]:
        """Run batches, as many at a time as suits the engine, and yield each with its logits.

        In their order; close it if it may be left early.
        """

        def run(packed: PackedBatch) -> tuple[PackedBatch, Float32Array]:
            return packed, self._session.run(packed.input_ids, packed.attention_mask)

        # Even one stream gets a thread: the next batch is packed while the device runs this one.
        return make_ahead(batches, run, threads=self.streams)


def label_slices(labels: Mapping[str, tuple[str, ...]]) -> dict[str, slice]:
    """Where the labels of each task lie among those of all, side by side."""
    edges = accumulate((len(names) for names in labels.values()), initial=0)
    return {task: slice(*ends) for task, ends in zip(labels, pairwise(edges), strict=True)}


class Scorer:
    """Tasks of a bundle, ready: model texts in, probabilities and decided labels out.

    tasks: one or more that read the same text, in the order of their logits.
    labels: of each task. width: how many those are together.
    """

    def __init__(self, runner: LogitRunner, tasks: tuple[ArtefactMetadata, ...]) -> None:
        self.runner = runner
        self.tasks = tasks
        self.labels = {about.task: about.labels for about in tasks}
        self.width = sum(len(names) for names in self.labels.values())

    @property
    def metadata(self) -> ArtefactMetadata:
        """Of the first task; text, encoder, tokens and precision are those of every task."""
        return self.tasks[0]

    def score(self, texts: Sequence[ModelText], *, on_batch: OnBatch = _ignore) -> Scored:
        """Probabilities and decided labels of every text, in the order of `texts`."""
        return self.score_tokens(self.runner.tokenize(texts), on_batch=on_batch)

    def score_tokens(
        self, tokenized: Sequence[TokenizedText], *, on_batch: OnBatch = _ignore
    ) -> Scored:
        """The same for texts that are tokenized already.

        Raises BundleError if a logit is no finite number.
        """
        if not tokenized:
            nothing = np.zeros((0, self.width), dtype=np.float32)
            return Scored(
                nothing, nothing.astype(np.bool_), np.zeros(0, np.int32), np.zeros(0, np.bool_)
            )
        logits = self.runner.logits(tokenized, on_batch=on_batch)
        if not np.isfinite(logits).all():
            raise BundleError(
                f"{self.runner.graph.label}: logits of {listing(self.labels)} are not finite "
                "numbers",
                hint="it is damaged; export the checkpoint again",
            )
        probabilities = np.empty_like(logits)
        for about, columns in zip(self.tasks, label_slices(self.labels).values(), strict=True):
            own = np.ascontiguousarray(logits[:, columns])  # as if it were scored alone
            probabilities[:, columns] = calibrate(own, about.calibration)
        thresholds = np.concatenate([about.threshold_array for about in self.tasks])
        return Scored(
            probabilities=probabilities,
            decided=decide(probabilities, thresholds),
            tokens=np.array([len(text.ids) for text in tokenized], dtype=np.int32),
            truncated=np.array([text.truncated for text in tokenized], dtype=np.bool_),
        )


def open_scorer(
    bundle: Bundle,
    tasks: str | tuple[str, ...],
    device: Device,
    *,
    precision: Precision,
    engine: EngineName | None = None,
    threads: int = 0,
    tokens_per_batch: int | None = None,
) -> Scorer:
    """Open a task of a bundle, or tasks that share a graph, after checking the files.

    engine: None takes the fastest that can run the file here.
    Raises UsageError for an unknown task or tasks that share no graph, BundleError if a
    file was changed, or if the tokenizer is not the one that the graph was exported with.
    """
    session, described = open_session(
        bundle, tasks, device, precision=precision, engine=engine, threads=threads
    )
    metadata = described[0]
    tokenizer = bundle.files.tokenizer
    label = printable(str(tokenizer))
    content = bundle.read_tokenizer()
    sha256 = bundle.manifest.files[tokenizer.name].sha256
    if sha256 != metadata.tokenizer_sha256:
        raise BundleError(
            f"{label}: is not the tokenizer that task {metadata.task!r} was exported with: sha256 "
            f"{sha256[:12]}..., expected {printable(metadata.tokenizer_sha256[:12])}...",
            hint="take graph and tokenizer from the same bundle",
        )
    runner = LogitRunner(
        session,
        load_tokenizer(content, label),
        max_tokens=metadata.max_tokens,
        pad_id=metadata.pad_id,
        tokens_per_batch=tokens_per_batch,
    )
    return Scorer(runner, described)
