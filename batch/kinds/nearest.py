"""Nearest: counts of decided labels, as of multi-label tasks, with votes for probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import JsonValue

from batch.kinds.multilabel import LabelTaskReport, MultilabelBatchKind


class VotesReport(LabelTaskReport):
    """`report.json` of a task that is decided by nearest texts."""

    legend: ClassVar[str] = "votes_legend.html.j2"

    one_label: bool
    """True where the label with the most votes is the answer; thresholds are then empty."""

    @property
    def has_thresholds(self) -> bool:
        """True where labels have thresholds."""
        return not self.one_label

    @property
    def threshold_of(self) -> Mapping[str, float]:
        """Threshold by label; 0 where there are none."""
        thresholds = self.thresholds or (0.0,) * len(self.labels)
        return dict(zip(self.labels, thresholds, strict=True))


class NearestBatchKind(MultilabelBatchKind):
    """See `batch.kinds.base.BatchKind`."""

    def report(self, decision: Mapping[str, JsonValue], common: Mapping[str, Any]) -> VotesReport:
        """The report, with what votes give a label."""
        return VotesReport.model_validate({**common, **decision})
