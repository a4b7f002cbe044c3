"""From model texts to the outputs of a graph: tokenize once, pack, run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from itertools import accumulate, chain, pairwise

import numpy as np
from tokenizers import Tokenizer

from batch.scoring.cache import LogitCache
from batch.scoring.packing import BatchShapes, PackedBatch
from batch.scoring.prefetch import make_ahead
from batch.scoring.session import TaskSession
from schemas.arrays import Float32Array, Int32Array, Int64Array
from schemas.errors import BundleError
from schemas.kinds.base import OutputSpec
from schemas.printable import one_line
from schemas.text.model_text import ModelText, TextSpec
from schemas.text.tokens import PLAIN_TEXT, TextTokenizer, TokenizedText
from schemas.text.windows import WindowSpec

TOKENS_PER_BATCH = {"cpu": 512, "cuda": 32768}
"""Default batch size by kind of device: what keeps it busy without taking memory for nothing. The
layers of a batch stay in the cache of a core, and of what is left over few rows are dummies."""

TOKENIZER_THREADS = 2
"""Threads that call the tokenizer where a GPU scores. A call keeps every core busy but for its part
in Python, which overlaps with the other thread. Where a CPU scores, no core is idle."""

CHUNKS_AT_ONCE = {"cpu": 1, "cuda": 2}
"""Chunks that are scored at the same time, so that a GPU has batches of one while the answers of
another are decided. A CPU has no time to fill."""

OnBatch = Callable[[int, int], None]
"""Called after each batch with its rows and its tokens; may raise to stop."""

TextOutputs = tuple[list[Float32Array], ...]
"""For each task the output of each text, float32 of `OutputSpec.shape`."""

_NO_OUTPUT: Float32Array = np.zeros(0, dtype=np.float32)


def ignore_batch(rows: int, tokens: int) -> None:
    """An OnBatch that does nothing."""


def load_tokenizer(content: bytes, label: str) -> Tokenizer:
    """Open the content of a tokenizer.json. Raises BundleError. label: its path, for messages."""
    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the Rust side raises plain Exception
        raise BundleError(f"{label}: not a tokenizer file: {one_line(error)}") from error


class GraphRunner:
    """A session with its tokenizer and its batch shapes: texts in, outputs out.

    text: says what is read of texts that are too long. windows: in which those are read instead.
    tokens_per_batch: None takes the default of the device.
    """

    def __init__(
        self,
        session: TaskSession,
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        pad_id: int,
        text: TextSpec = PLAIN_TEXT,
        windows: WindowSpec | None = None,
        tokens_per_batch: int | None = None,
    ) -> None:
        self._text, self._windows = text, windows
        self.tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH[session.device.kind]
        self.shapes = BatchShapes(max_tokens, self.tokens_per_batch)
        self.pad_id = pad_id
        self.device = session.device
        self.engine = session.engine
        self.streams = session.streams
        self.graph = session.graph
        self._session = session
        self._outputs = tuple(session.outputs.values())
        self._cache: LogitCache | None = None
        try:
            self._tokenizer = TextTokenizer(tokenizer, max_tokens=max_tokens)
        except OverflowError as error:
            raise self._id_error(error) from error
        # Starts the tokenizer's threads while there is memory for them; later it would panic.
        self.tokenize([ModelText("warm up", cut=False)] * 2)

    def with_cache(self, cache: LogitCache) -> GraphRunner:
        """The same runner with a cache that was made for these tasks, this file and this engine."""
        runner = copy.copy(self)
        runner._cache = cache
        return runner

    def without_windows(self) -> GraphRunner:
        """The same runner for texts of which the graph reads what it can at once."""
        runner = copy.copy(self)
        runner._windows = None
        return runner

    @property
    def chunks_at_once(self) -> int:
        """Threads that should call `outputs`; with a cache only the one that opened it may."""
        return CHUNKS_AT_ONCE[self.device.kind] if self._cache is None else 1

    def tokenize(self, texts: Sequence[ModelText]) -> list[TokenizedText]:
        """Token ids of every text. Raises BundleError for a tokenizer with ids beyond int32."""
        try:
            if self.device.kind == "cpu":
                return self._encode(texts)
            size = self._tokenizer.texts_per_call
            groups = (texts[first : first + size] for first in range(0, len(texts), size))
            with closing(make_ahead(groups, self._encode, threads=TOKENIZER_THREADS)) as encoded:
                return list(chain.from_iterable(encoded))
        except OverflowError as error:
            raise self._id_error(error) from error

    def _id_error(self, error: OverflowError) -> BundleError:
        return BundleError(
            f"{self.graph.label}: its tokenizer has an id out of range: {error}",
            hint="export the checkpoint again",
        )

    def _encode(self, texts: Sequence[ModelText]) -> list[TokenizedText]:
        return list(self._tokenizer.encode(texts, self._text, self._windows))

    def outputs(
        self, texts: Sequence[TokenizedText], *, on_batch: OnBatch = ignore_batch
    ) -> TextOutputs:
        """Run every text, or its windows; identical ones once.

        on_batch: a text in windows counts as a row with the first of them.
        """
        pieces = [text.pieces for text in texts]
        index: dict[bytes, int] = {}
        inverse = [
            [index.setdefault(piece.ids.tobytes(), len(index)) for piece in of_text]
            for of_text in pieces
        ]
        copies = np.bincount([rows[0] for rows in inverse], minlength=len(index))
        ids = [np.frombuffer(key, dtype=np.int32) for key in index]
        if self._cache is None:
            flat = self._run(ids, copies, on_batch)
        else:
            flat = self._run_unknown(self._cache, ids, copies, on_batch)
        split = [
            split_outputs(row, self._outputs, len(text))
            for row, text in zip(flat, ids, strict=True)
        ]
        return tuple(
            [
                output.of_text([split[row][task] for row in rows], text)
                for rows, text in zip(inverse, texts, strict=True)
            ]
            for task, output in enumerate(self._outputs)
        )

    def _run_unknown(
        self, cache: LogitCache, ids: list[Int32Array], copies: Int64Array, on_batch: OnBatch
    ) -> list[Float32Array]:
        """Flat outputs of each piece, those that are not in the cache by a run."""
        cached = cache.get(ids)
        unknown = [row for row, output in enumerate(cached) if output is None]
        on_batch(int(copies.sum()) - int(copies[unknown].sum()), 0)
        fresh = self._run([ids[row] for row in unknown], copies[unknown], on_batch)
        cache.put([ids[row] for row in unknown], fresh)
        remaining = iter(fresh)
        return [next(remaining) if output is None else output for output in cached]

    def _run(
        self, ids: Sequence[Int32Array], copies: Int64Array, on_batch: OnBatch
    ) -> list[Float32Array]:
        """Flat outputs of each piece, all tasks in one (numbers,) float32.

        copies: (pieces,), how many texts begin with it.
        """
        results: list[Float32Array] = [_NO_OUTPUT] * len(ids)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        with closing(self.run_batches(self.shapes.pack(ids, pad_id=self.pad_id))) as finished:
            for packed, arrays in finished:
                of_batch = lengths[packed.rows]
                joined = join_outputs(arrays, self._outputs, of_batch)
                for row, output in zip(packed.rows, joined, strict=True):
                    results[row] = output
                on_batch(int(copies[packed.rows].sum()), int(of_batch.sum()))
        return results

    def run_batches(
        self, batches: Iterable[PackedBatch]
    ) -> Generator[tuple[PackedBatch, tuple[Float32Array, ...]]]:
        """Run batches, as many at a time as suits the engine, and yield each with its outputs.

        In their order; close it if it may be left early.
        """

        def run(packed: PackedBatch) -> tuple[PackedBatch, tuple[Float32Array, ...]]:
            return packed, self._session.run(packed.input_ids, packed.attention_mask)

        # Even one stream gets a thread: the next batch is packed while the device runs this one.
        return make_ahead(batches, run, threads=self.streams)


def join_outputs(
    arrays: Sequence[Float32Array], outputs: Sequence[OutputSpec], lengths: Int64Array
) -> list[Float32Array]:
    """Outputs of each text of a batch, without those of its padding, in one flat array.

    arrays: of each task, (rows, ...); dummy rows at their end are left out.
    lengths: (texts,) tokens of each text.
    """
    rows = len(lengths)
    if not any(output.per_token for output in outputs):  # many rows: no array calls for each
        return list(np.concatenate([array[:rows] for array in arrays], axis=1))
    return [
        np.concatenate(
            [
                array[row, :tokens].ravel() if output.per_token else array[row]
                for array, output in zip(arrays, outputs, strict=True)
            ]
        )
        for row, tokens in enumerate(lengths.tolist())
    ]


def split_outputs(
    flat: Float32Array, outputs: Sequence[OutputSpec], tokens: int
) -> list[Float32Array]:
    """Output of each task of one text, from what `join_outputs` made."""
    if len(outputs) == 1:
        return [flat.reshape(outputs[0].shape(tokens))]
    edges = accumulate((output.size(tokens) for output in outputs), initial=0)
    return [
        flat[first:end].reshape(output.shape(tokens))
        for (first, end), output in zip(pairwise(edges), outputs, strict=True)
    ]
