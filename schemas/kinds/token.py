"""Token: spans of words with a label, such as named entities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, model_validator

from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.decide import calibrate
from schemas.decision.spans import (
    SpanDecision,
    SpanDecisionConfig,
    SpanEvidence,
    SpanHits,
    SpanScores,
    number_of_tags,
    places_of,
    tag_spans,
)
from schemas.kinds.base import Answer, Entity, OutputSpec
from schemas.kinds.labels import check_lengths
from schemas.kinds.multiclass import ClassLossConfig
from schemas.tables import (
    END,
    ENTITIES,
    LABEL,
    SCORE,
    START,
    TEXT,
    ProbabilityFormat,
    is_list,
    is_text,
)
from schemas.tasks.parents import Parents
from schemas.tasks.sections import TaskOptions
from schemas.text.arrow_text import BadText, decode_text
from schemas.text.tokens import TokenizedText

ENTITY_TYPE = pa.struct(
    [
        pa.field(START, pa.int32()),
        pa.field(END, pa.int32()),
        pa.field(LABEL, pa.string()),
        pa.field(TEXT, pa.string()),
        pa.field(SCORE, pa.float32()),
    ]
)


class GoldSpan(NamedTuple):
    """A span in gold. start, end: characters of the article's text, end exclusive."""

    start: int
    end: int
    label: str


class TokenOptions(TaskOptions):
    """What only a task that finds spans may set in the config.

    Its data have a column of lists of `start`, `end` and `label`, in characters of the text, end
    exclusive; or a text column of lists of words, and lists of tags such as `B-PER` as labels; or
    they are files of `format = "conll"`.
    """

    loss: ClassLossConfig = ClassLossConfig()
    """Training loss of the tags of words."""
    decision: SpanDecisionConfig = SpanDecisionConfig()
    """From tags to spans, and the calibration of their scores."""

    @model_validator(mode="after")
    def _reads_plain_text(self) -> Self:
        if getattr(self, "entity_markers", False):
            raise ValueError(
                "entity_markers: a task of kind 'token' marks entities, and reads none"
            )
        if getattr(self, "truncation", "head") != "head":
            raise ValueError("truncation: a task of kind 'token' reads the beginning of a text")
        return self


@dataclass(frozen=True)
class Spans:
    """Answers of a task that finds spans. labels: of the task. rows: spans of each text."""

    labels: tuple[str, ...]
    rows: tuple[tuple[Entity, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Int64Array) -> Self:
        """Spans of the given rows; -1 gives none."""
        return replace(self, rows=tuple(() if row < 0 else self.rows[row] for row in rows.tolist()))

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These answers and then those of the others."""
        rows = [row for part in (self, *others) for row in part.rows]
        return replace(self, rows=tuple(rows))

    def columns(self, is_answered: BoolArray, form: ProbabilityFormat) -> list[pa.Array]:
        """The spans, in order of their starts; an empty list for a row without an answer."""
        kept = [
            row if answered else ()
            for row, answered in zip(self.rows, is_answered.tolist(), strict=True)
        ]
        ends = np.cumsum([0, *map(len, kept)]).astype(np.int32)
        flat = [tuple(entity) for row in kept for entity in row]
        columns = list(zip(*flat, strict=True)) or [()] * len(ENTITY_TYPE)
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, ENTITY_TYPE, strict=True)
        ]
        structs = pa.StructArray.from_arrays(arrays, fields=list(ENTITY_TYPE))
        return [pa.ListArray.from_arrays(ends, structs)]

    def changed(self, other: Self) -> BoolArray:
        """(rows, 1) texts whose spans differ in start, end or label."""
        return np.array(
            [
                [{entity[:3] for entity in ours} != {entity[:3] for entity in theirs}]
                for ours, theirs in zip(self.rows, other.rows, strict=True)
            ],
            np.bool_,
        ).reshape(-1, 1)

    def answers(self) -> list[Answer]:
        """Spans of each row."""
        return [
            Answer(labels=tuple(dict.fromkeys(entity.label for entity in row)), entities=row)
            for row in self.rows
        ]

    def numbered(self) -> list[Int64Array]:
        """(spans, 3) of each row: start, end and number of the label."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        return [
            np.array(
                [(entity.start, entity.end, numbers[entity.label]) for entity in row], np.int64
            ).reshape(-1, 3)
            for row in self.rows
        ]


class TokenKind:
    """See `schemas.kinds.base.Kind`."""

    NAME = "token"
    HAS_LABELS = True
    NEEDS_WORDS = True
    HAS_REFERENCES = False
    GOLD_TYPES = "a list of structs with start, end and label"
    Options = TokenOptions
    Decision = SpanDecision
    Evidence = SpanEvidence
    Scores = SpanScores

    def output(self, width: int) -> OutputSpec:
        """Logits of tags, (rows, seq, 1 + 2 * labels)."""
        return OutputSpec("logits", width, per_token=True)

    def width(self, labels: Sequence[str], decision: BaseModel) -> int:
        """One logit a tag."""
        return number_of_tags(len(labels))

    def check(self, labels: Sequence[str], decision: SpanDecision) -> None:
        """Raise ValueError unless there is one calibration."""
        check_lengths(
            {
                "calibration.scale": decision.calibration.scale,
                "calibration.bias": decision.calibration.bias,
            },
            (SCORE,),
        )

    def check_evidence(self, labels: Sequence[str], evidence: BaseModel) -> None:
        """Raise ValueError unless there is one count a label."""
        assert isinstance(evidence, SpanEvidence)
        check_lengths({"evidence.positives": evidence.positives}, labels)

    def fields(
        self, labels: tuple[str, ...], width: int, form: ProbabilityFormat
    ) -> list[pa.Field]:
        """`entities`."""
        return [pa.field(ENTITIES, pa.list_(ENTITY_TYPE))]

    def accepts_gold(self, column_type: pa.DataType) -> bool:
        """True for lists of structs with start, end and label, and for columns of nulls."""
        if pa.types.is_null(column_type):
            return True
        if not is_list(column_type):
            return False
        values = column_type.value_type
        return bool(pa.types.is_null(values)) or (
            bool(pa.types.is_struct(values))
            and {START, END, LABEL} <= {field.name for field in values}
            and all(pa.types.is_integer(values.field(name).type) for name in (START, END))
            and is_text(values.field(LABEL).type)
        )

    def read_gold(self, column: pa.Array) -> list[tuple[GoldSpan, ...] | None]:
        """Spans of each row; None for a null. A BadText in place of a label that cannot be used."""
        if pa.types.is_null(column.type) or pa.types.is_null(column.type.value_type):
            return [None if value is None else () for value in column.to_pylist()]
        spans = column.flatten()
        # Not `StructArray.field`, which has values where the struct itself is null.
        starts, ends, labels = (pc.struct_field(spans, name) for name in (START, END, LABEL))
        flat = iter(zip(starts.to_pylist(), ends.to_pylist(), decode_text(labels), strict=True))
        lengths = pc.list_value_length(column).to_pylist()
        return [
            None if length is None else tuple(_gold_span(*next(flat)) for _ in range(length))
            for length in lengths
        ]

    def gold_labels(self, gold: Sequence[GoldSpan]) -> Sequence[str]:
        """Labels of the spans, each once."""
        return tuple(dict.fromkeys(span.label for span in gold))

    def gold_problem(self, gold: Sequence[GoldSpan], text: str) -> str | None:
        """The first span that ends behind the text."""
        for span in gold:
            if span.end > len(text):
                return (
                    f"a span of {span.label!r} from {span.start} to {span.end} lies outside the "
                    f"text of {len(text)} characters"
                )
        return None

    def empty_gold(self) -> tuple[GoldSpan, ...]:
        """A text without spans."""
        return ()

    def only_known(self, gold: Sequence[GoldSpan], known: Collection[str]) -> tuple[GoldSpan, ...]:
        """Spans with known labels; a text without any is an example, too."""
        return tuple(span for span in gold if span.label in known)

    def complete(self, gold: tuple[GoldSpan, ...], parents: Parents) -> tuple[GoldSpan, ...]:
        """The spans themselves: no span implies another."""
        return gold

    def encode(
        self, gold: Sequence[Sequence[GoldSpan]], labels: tuple[str, ...]
    ) -> list[Int64Array]:
        """(spans, 3) of each row: start, end and number of the label."""
        numbers = {label: number for number, label in enumerate(labels)}
        return [
            np.array(
                [(one.start, one.end, numbers[one.label]) for one in row if one.label in numbers],
                np.int64,
            ).reshape(-1, 3)
            for row in gold
        ]

    def decide(
        self,
        outputs: Sequence[Float32Array],
        labels: tuple[str, ...],
        decision: SpanDecision,
        texts: Sequence[TokenizedText],
    ) -> Spans:
        """Decode the tags of words, and calibrate the scores of spans.

        outputs: logits of each text, (tokens, tags) float32. A text that was tokenized without its
        words has no spans.
        """
        rows = [
            _entities(output, text, labels, decision)
            for output, text in zip(outputs, texts, strict=True)
        ]
        return Spans(labels, tuple(rows))

    def compare(self, targets: Sequence[Int64Array], decided: Spans) -> SpanHits:
        """Count right spans; targets: (spans, 3) of each row."""
        return SpanHits.count(targets, decided.numbered(), len(decided.labels))


def _entities(
    output: Float32Array, text: TokenizedText, labels: tuple[str, ...], decision: SpanDecision
) -> tuple[Entity, ...]:
    if text.words is None:
        return ()
    words = text.words
    spans = tag_spans(output[words.tokens], decision.decoding)
    if not spans:
        return ()
    logits = np.array([[span.logit] for span in spans], np.float32)
    scores = calibrate(logits, decision.calibration)[:, 0]
    places = places_of(words, (span[:3] for span in spans)).tolist()
    return tuple(
        Entity(start, end, labels[label], words.source[start:end], score)
        for (start, end, label), score in zip(places, scores.tolist(), strict=True)
        if score >= decision.least_score
    )


def _gold_span(start: int | None, end: int | None, label: str | None) -> GoldSpan:
    if start is None or end is None or label is None:
        return GoldSpan(0, 0, BadText("a span without start, end or label"))
    if not 0 <= start < end:
        return GoldSpan(0, 0, BadText(f"a span from {start} to {end}"))
    return GoldSpan(start, end, label)
