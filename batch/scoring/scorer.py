"""From model texts to answers: outputs of the graph, decided as each task's kind does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batch.machine.device import Device
from batch.scoring.cache import LogitCache
from batch.scoring.neighbours import ReferenceNames, require_references
from batch.scoring.runner import GraphRunner, OnBatch, ignore_batch, load_tokenizer
from batch.scoring.session import open_session
from schemas.arrays import Float32Array, Int32Array, Int64Array
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.variants import EngineName, Precision
from schemas.decision.neighbours import Neighbours
from schemas.errors import BundleError
from schemas.kinds import KINDS
from schemas.printable import printable
from schemas.text.model_text import ModelText
from schemas.text.tokens import TokenizedText


@dataclass(frozen=True)
class Scored:
    """Results, one a row.

    tasks: answers of each task (`schemas.kinds.base.Decided`).
    tokens: (rows,) int32, special tokens included.
    neighbours: nearest reference texts by task, of those tasks that were asked for them.
    """

    tasks: Mapping[str, Any]
    tokens: Int32Array
    neighbours: Mapping[str, Neighbours]

    def take(self, rows: Int64Array) -> Scored:
        """Results of the given rows, in that order; -1 stands for a row without a text."""
        is_empty = rows < 0
        tokens = np.zeros(len(rows), np.int32)
        tokens[~is_empty] = self.tokens[rows[~is_empty]]
        taken = {task: decided.take(rows) for task, decided in self.tasks.items()}
        neighbours = {task: one.take(rows) for task, one in self.neighbours.items()}
        return Scored(taken, tokens, neighbours)


def concatenate(pieces: Sequence[Scored]) -> Scored:
    """Results of several pieces, one after the other."""
    first, others = pieces[0], pieces[1:]
    return Scored(
        tasks={
            task: decided.followed_by([piece.tasks[task] for piece in others])
            for task, decided in first.tasks.items()
        },
        tokens=np.concatenate([piece.tokens for piece in pieces]),
        neighbours={
            task: neighbours.followed_by([piece.neighbours[task] for piece in others])
            for task, neighbours in first.neighbours.items()
        },
    )


class Scorer:
    """Tasks of a bundle, ready: model texts in, answers out.

    tasks: one or more that read the same text, in the order of the graph's outputs.
    neighbours: name the nearest reference texts too, for tasks that can; the session of the runner
    was opened for that.
    """

    def __init__(
        self,
        runner: GraphRunner,
        tasks: tuple[ArtefactMetadata, ...],
        *,
        neighbours: bool = False,
    ) -> None:
        self.runner = runner
        self.tasks = tasks
        self.neighbours = neighbours
        self._references = {
            metadata.task: ReferenceNames.of(metadata)
            for metadata in tasks
            if neighbours and metadata.references is not None
        }

    @property
    def metadata(self) -> ArtefactMetadata:
        """Of the first task; text, encoder, tokens and precision are those of every task."""
        return self.tasks[0]

    @property
    def answer(self) -> str:
        """How large the answers of all tasks are, in words."""
        labels = sum(len(metadata.labels) for metadata in self.tasks)
        numbers = sum(one.output.width for one in self.tasks if not one.labels)
        parts = [f"{labels} labels"] * bool(labels) + [f"{numbers} numbers"] * bool(numbers)
        return " and ".join(parts)

    def with_cache(self, cache: LogitCache) -> Scorer:
        """The same scorer with a cache, see `GraphRunner.with_cache`."""
        return Scorer(self.runner.with_cache(cache), self.tasks, neighbours=self.neighbours)

    def score(self, texts: Sequence[ModelText], *, on_batch: OnBatch = ignore_batch) -> Scored:
        """Answers for every text, in the order of `texts`."""
        return self.score_tokens(self.runner.tokenize(texts), on_batch=on_batch)

    def score_tokens(
        self, texts: Sequence[TokenizedText], *, on_batch: OnBatch = ignore_batch
    ) -> Scored:
        """The same for texts that are tokenized already.

        Raises BundleError if an output is not finite.
        """
        outputs = self.runner.outputs(texts, on_batch=on_batch)
        tasks, neighbours = {}, {}
        for metadata, of_texts in zip(self.tasks, outputs, strict=True):
            self._check_finite(metadata.task, of_texts)
            own, references = of_texts, self._references.get(metadata.task)
            if references is not None:
                own, neighbours[metadata.task] = references.split(
                    of_texts, source=self.runner.graph.label
                )
            kind = KINDS[metadata.kind]
            tasks[metadata.task] = kind.decide(own, metadata.labels, metadata, texts)
        tokens = np.array([len(text.ids) for text in texts], dtype=np.int32)
        return Scored(tasks, tokens, neighbours)

    def _check_finite(self, task: str, outputs: Sequence[Float32Array]) -> None:
        if len(outputs) and not np.isfinite(np.concatenate([one.ravel() for one in outputs])).all():
            raise BundleError(
                f"{self.runner.graph.label}: outputs of {task!r} are not finite numbers",
                hint="it is damaged; export the checkpoint again",
            )


def open_scorer(
    bundle: Bundle,
    tasks: tuple[str, ...],
    device: Device,
    *,
    precision: Precision,
    engine: EngineName | None = None,
    threads: int = 0,
    tokens_per_batch: int | None = None,
    neighbours: bool = False,
) -> Scorer:
    """Open a task of a bundle, or tasks that share a graph, after checking the files.

    engine: None takes the fastest that can run the file here. neighbours: name the nearest
    reference texts too, for tasks that can.
    Raises UsageError for an unknown task, tasks that share no graph, or neighbours that no task can
    name; BundleError if a file was changed, or if the tokenizer is not the one that the graph was
    exported with.
    """
    session, described = open_session(
        bundle,
        tasks,
        device,
        precision=precision,
        engine=engine,
        threads=threads,
        neighbours=neighbours,
    )
    if neighbours:
        require_references(described)
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
    runner = GraphRunner(
        session,
        load_tokenizer(content, label),
        max_tokens=metadata.max_tokens,
        pad_id=metadata.pad_id,
        text=metadata.text,
        windows=metadata.windows,
        tokens_per_batch=tokens_per_batch,
    )
    return Scorer(runner, described, neighbours=neighbours)
