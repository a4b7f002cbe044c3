"""One task of a bundle, opened once and called with texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batch.machine.device import choose_device
from batch.scoring.precision import choose_precision
from batch.scoring.scorer import open_scorer
from batch.scoring.signature import open_bundle
from schemas.arrays import Float32Array
from schemas.decision.neighbours import Neighbour
from schemas.errors import UsageError
from schemas.kinds import KINDS
from schemas.kinds.base import Answer, Entity
from schemas.text.model_text import EMPTY, Article, ModelText, model_text
from schemas.text.tokens import ReadStatus, TokenizedText


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one text; the columns of `batch-classify` for a row.

    labels: decided labels. probabilities: calibrated, of every label; None for an empty text. Both
    are in label order. tokens: scored tokens, special tokens included. status: `windowed` for a
    text that was read in several windows, `truncated` for one that was read in part.
    embedding: (dimension,) float32; None for an empty text, and for a task that decides labels.
    entities: spans of the text, in order of their starts, for a task that finds them.
    neighbours: the nearest reference texts, the nearest first, if the scorer was asked for them;
    none for an empty text.
    """

    labels: tuple[str, ...]
    probabilities: Mapping[str, float] | None
    tokens: int
    status: ReadStatus | Literal["empty"]
    embedding: Float32Array | None = None
    entities: tuple[Entity, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


EMPTY_PREDICTION = Prediction((), None, 0, "empty")


class Scorer:
    """A task of a bundle, ready to score.

    bundle: folder that export-classifier wrote. device, precision, threads: as the options of
    `batch-classify`. require_signature: PEM file of the public key that must have signed it.
    neighbours: name the nearest reference texts too, for a task that can.
    labels: of the task, in their order.

    Raises NarrascanError if the bundle, the task, the device or the precision is not available.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        task: str,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        require_signature: str | Path | None = None,
        neighbours: bool = False,
    ) -> None:
        opened = open_bundle(
            Path(bundle), None if require_signature is None else Path(require_signature)
        )
        chosen = choose_device(device)
        self._scorer = open_scorer(
            opened,
            (task,),
            chosen,
            precision=choose_precision(opened, (task,), chosen, precision),
            threads=threads,
            neighbours=neighbours,
        )
        self._task = task
        self.labels = self._scorer.metadata.labels

    def score(self, texts: Sequence[str | Article | None]) -> list[Prediction]:
        """Predictions for texts, in their order; None and blank texts are empty.

        An `Article` has a title, which a task may read before the text, or the span of an entity.
        Raises UsageError if the span of an entity is missing or does not fit its text.
        """
        model_texts = [self._model_text(number, text) for number, text in enumerate(texts)]
        tokenized = self._scorer.runner.tokenize([text for text in model_texts if text != EMPTY])
        scored = self._scorer.score_tokens(tokenized)
        none: list[tuple[Neighbour, ...]] = [()] * len(tokenized)
        named = scored.neighbours.get(self._task)
        neighbours = none if named is None else named.answers()
        answers = scored.tasks[self._task].answers()
        results = iter(zip(answers, tokenized, neighbours, strict=True))
        return [
            EMPTY_PREDICTION if text == EMPTY else _prediction(*next(results))
            for text in model_texts
        ]

    def _model_text(self, number: int, text: str | Article | None) -> ModelText:
        metadata = self._scorer.metadata
        article = text if isinstance(text, Article) else Article(text)
        try:
            return model_text(
                article,
                metadata.text,
                max_tokens=metadata.most_tokens,
                keep_source=KINDS[metadata.kind].NEEDS_WORDS,
            )
        except ValueError as error:
            raise UsageError(f"text {number}: {error}") from error


def _prediction(
    answer: Answer, text: TokenizedText, neighbours: tuple[Neighbour, ...]
) -> Prediction:
    return Prediction(
        labels=answer.labels,
        probabilities=answer.probabilities,
        tokens=len(text.ids),
        status=text.status,
        embedding=answer.embedding,
        entities=answer.entities,
        neighbours=neighbours,
    )
