"""Embedding: how similar the texts of a domain are, and how far domains are from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field, JsonValue, ValidationError

from batch.counting.groups import Groups
from batch.counting.vectors import (
    VectorColumns,
    VectorCounts,
    VectorSums,
    VectorTotals,
    count_vectors,
)
from batch.kinds.base import ChunkAnswers, RowFacts
from batch.kinds.map_points import MapPoint, map_points
from batch.kinds.sections import Number, OthersReport, Report, RowCounts, SectionReport
from schemas.arrays import Float32Array
from schemas.decision.vectors import principal_components, unit_vectors
from schemas.validation import validation_problems

NEAREST = 3
"""Domains that are named as the nearest ones of a domain."""
PLACED_DIGITS = 4
LEAST_ON_MAP = 3


class NearDomain(BaseModel):
    """A domain, and how similar it is to another."""

    model_config = RowCounts.model_config

    domain: str
    cosine: Number
    """Of the mean vectors of both."""


@dataclass(frozen=True)
class SimilarityCell:
    """Cosine of two domains. strength: 0 for the lowest of a table, 1 for the highest."""

    cosine: float
    strength: float


class VectorSection(SectionReport):
    """Vectors in one domain."""

    similarity: Number | None
    """Mean cosine of two of its texts; null for fewer than two."""
    nearest: tuple[NearDomain, ...] = ()
    """The domains with the most similar mean vectors, the nearest first."""
    place: tuple[Number, Number] | None = None
    """On the map: the mean vector by the first two principal components of those of all domains;
    null for a domain without scored rows, and on the whole corpus."""
    centre: tuple[float, ...] | None = Field(default=None, exclude=True, repr=False)
    """Mean of the vectors at length 1."""


class VectorOthers(OthersReport, VectorSection):
    """Domains that are not described one by one, counted together."""


class VectorTaskReport(Report):
    """`report.json` of a task that gives vectors."""

    template: ClassVar[str] = "vectors.html.j2"
    legend: ClassVar[str] = "vectors_legend.html.j2"

    dimension: int
    """Numbers of a vector."""
    overall: VectorSection
    domains: Mapping[str, VectorSection]
    others: VectorOthers | None = None

    @property
    def has_map(self) -> bool:
        """True if there are enough domains for their places to say anything."""
        return sum(one.place is not None for one in self.domains.values()) >= LEAST_ON_MAP

    @property
    def parts(self) -> Mapping[str, str]:
        """Tables, and the map."""
        return {
            "overview": "Domains compared",
            **({"map": "Map of the domains"} if self.has_map else {}),
            "heat": "Similarity of domains",
            "all": "All domains together",
        }

    @property
    def answer(self) -> str:
        """What an article gets."""
        return f"vectors of {self.dimension} numbers"

    @property
    def points(self) -> list[MapPoint]:
        """Domains on the map, the largest first."""
        placed = [(name, one) for name, one in self.domains.items() if one.place is not None]
        placed.sort(key=lambda item: (-item[1].rows, item[0]))
        return map_points(
            [name for name, _ in placed],
            [one.place or (0.0, 0.0) for _, one in placed],
            [one.scored for _, one in placed],
        )

    def similarity_table(self, names: Sequence[str]) -> list[list[SimilarityCell | None]]:
        """Cosines of the mean vectors of some domains; None for a domain and itself, and where one
        has no scored rows.
        """
        centres = [self.domains[name].centre for name in names]
        unit = [
            None if one is None else unit_vectors(np.array([one], np.float32))[0] for one in centres
        ]
        cosines = [
            [
                None if first is None or second is None or row == column else float(first @ second)
                for column, second in enumerate(unit)
            ]
            for row, first in enumerate(unit)
        ]
        found = [one for row in cosines for one in row if one is not None]
        low, high = min(found, default=0.0), max(found, default=0.0)
        spread = (high - low) or 1.0
        return [
            [None if one is None else SimilarityCell(one, (one - low) / spread) for one in row]
            for row in cosines
        ]


class EmbeddingBatchKind:
    """See `batch.kinds.base.BatchKind`."""

    Others = VectorOthers

    def cells(self, width: int) -> int:
        """Few, however long a vector is."""
        return 1

    def tally(self, groups: Groups, answers: ChunkAnswers) -> VectorCounts:
        """Add the vectors up by domain."""
        return count_vectors(groups, answers.decided.vectors, answers.scored)

    def pack(self, tally: VectorCounts) -> dict[str, JsonValue]:
        """Columns in base64."""
        packed: dict[str, JsonValue] = VectorColumns.of(tally).model_dump(exclude_none=True)
        return packed

    def unpack(self, packed: Mapping[str, object], *, domains: int, width: int) -> VectorCounts:
        """Read what `pack` gave."""
        try:
            return VectorColumns.model_validate(packed).counts(domains, width)
        except ValidationError as error:
            raise ValueError(validation_problems(error, "tally")) from error

    def sums(self, height: int, width: int) -> VectorSums:
        """Sums of no chunks yet."""
        return VectorSums(height, width)

    def section(self, rows: RowFacts, total: VectorTotals, labels: Sequence[str]) -> VectorSection:
        """Similarity within the domain, and its mean vector."""
        count = rows.scored
        squared = float(np.square(total.total).sum())
        similarity = (squared - count) / (count * (count - 1)) if count > 1 else None
        return VectorSection(
            rows=rows.rows,
            ok=rows.ok,
            windowed=rows.windowed,
            truncated=rows.truncated,
            empty=rows.empty,
            quarantined=rows.quarantined,
            tokens_mean=rows.tokens / max(count, 1),
            token_histogram=tuple(rows.token_histogram.tolist()),
            similarity=None if similarity is None else min(max(similarity, -1.0), 1.0),
            centre=tuple((total.total / count).tolist()) if count else None,
        )

    def report(
        self, decision: Mapping[str, JsonValue], common: Mapping[str, Any]
    ) -> VectorTaskReport:
        """The report, with a map of the domains and the nearest ones of each."""
        domains = _compared(common["domains"])
        fields = {**common, "domains": domains, "dimension": decision["dimension"]}
        return VectorTaskReport.model_validate(fields)


def _compared(domains: Mapping[str, VectorSection]) -> dict[str, VectorSection]:
    """Domains with their place on the map, and the nearest ones."""
    scored = {name: one.centre for name, one in domains.items() if one.centre is not None}
    if not scored:
        return dict(domains)
    names = list(scored)
    centres = unit_vectors(np.array(list(scored.values()), np.float32))
    places = _places(centres)
    matrix = centres @ centres.T
    compared = dict(domains)
    for row, name in enumerate(names):
        order = sorted(range(len(names)), key=lambda other: (-matrix[row, other], names[other]))
        near = [
            NearDomain(domain=names[other], cosine=float(matrix[row, other]))
            for other in order
            if other != row
        ]
        x, y = places[row].tolist()
        place = (round(x, PLACED_DIGITS), round(y, PLACED_DIGITS))
        update = {"nearest": tuple(near[:NEAREST]), "place": place}
        compared[name] = domains[name].model_copy(update=update)
    return compared


def _places(centres: Float32Array) -> Float32Array:
    """(domains, dimension) to (domains, 2); all 0 for a single domain."""
    places = np.zeros((len(centres), 2), np.float32)
    count = min(2, len(centres) - 1, centres.shape[1])
    if count > 0:
        components = principal_components(centres, count)
        places[:, :count] = (centres - centres.mean(axis=0)) @ components.T
    return places
