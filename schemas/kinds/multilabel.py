"""Multilabel: any number of labels a row, a calibrated sigmoid and a threshold each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.arrays import Float32Array
from schemas.decision.decide import Calibration, Probability, calibrate
from schemas.decision.set_rule import SetRule, check_enough_labels, check_set_size
from schemas.decision.settings import DecisionConfig, DecisionEvidence
from schemas.kinds.base import OutputSpec
from schemas.kinds.label_sets import LabelSetKind, LabelSets
from schemas.kinds.labels import check_label_names, check_lengths
from schemas.tasks.parents import check_parents
from schemas.tasks.sections import HeadKind, HeadStart, LossConfig, Sampling, TaskOptions
from schemas.text.tokens import TokenizedText


class MultilabelOptions(TaskOptions):
    """What only a multi-label task may set in the config."""

    head: HeadKind = "label_attention"
    """`mean`: a linear layer over the mean of the tokens. `label_attention`: beside that, each
    label looks at the tokens that speak for it."""
    head_start: HeadStart = "names"
    """What a `label_attention` head begins with. `names`: each label looks for what the encoder
    makes of its name, so that a label with three training rows does not start from nothing.
    `random`: small random weights. The bias always
    starts from the frequency of the label."""
    label_names: dict[str, str] = Field(default_factory=dict)
    """Words for labels whose own name does not say what they are, as in `dlr = "US dollar"`; heads
    start from them. Without it the name itself, `-` and `_` read as spaces."""
    lexical_features: bool = True
    """Add to the head what single tokens and pairs of them say by themselves: a linear support
    vector machine over their TF-IDF, trained in seconds after the encoder, and weighted by the
    held-out rows. Helps most where labels have few rows. Adds 4 bytes to the file for each label
    and feature; there are at most 20,000 features."""
    parents: dict[str, str] = Field(default_factory=dict, exclude_if=lambda parents: not parents)
    """Coarse label of each fine one, as in `"crude oil" = "energy"`, for labels of exactly two
    levels. A gold label implies its parent, and a fine label is decided only together with its
    parent, which is never less probable; scores are given for both levels. Labels without an entry
    are coarse. Neither a parent nor a fine label has to occur in the data."""
    loss: LossConfig = LossConfig()
    """Training loss."""
    sampling: Sampling = "none"
    """How often rows come up in an epoch: `none` once; `repeat_factor` those with a rare label more
    often, so that epochs grow longer; `class_aware` so that every label comes up equally often,
    which leaves out rows of frequent ones. The loss keeps to the counts of the data."""
    sampling_threshold: float = Field(default=0.01, gt=0.0, le=1.0)
    """Share of the training rows below which `repeat_factor` repeats a label: one with a quarter of
    that share comes up twice as often. In 10,000 rows the default repeats labels of fewer than 100,
    as many as the published 0.001 does in 100,000 images."""
    decision: DecisionConfig = DecisionConfig()
    """Calibration, thresholds, and the number of labels per text."""

    @model_validator(mode="after")
    def _names_are_of_labels(self) -> Self:
        check_label_names(self.label_names, getattr(self, "labels", None))
        return self

    @model_validator(mode="after")
    def _parents_are_labels(self) -> Self:
        labels = getattr(self, "labels", None)
        check_parents(self.parents, labels)
        if labels is not None:
            check_enough_labels(self.decision, labels, self.parents)
        return self


class MultilabelDecision(BaseModel):
    """Calibration, the threshold of each label, and the number of labels per row."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    thresholds: tuple[Probability, ...]
    """In label order; a probability equal to its threshold is positive."""
    calibration: Calibration
    parents: dict[str, str] = Field(default_factory=dict, exclude_if=lambda parents: not parents)
    """Coarse label by fine label; empty, and not written, for labels of one level."""
    fewest_labels: int = Field(default=0, ge=0, exclude_if=lambda fewest: fewest == 0)
    """Minimum number of labels per row, not counting coarse labels that have fine ones; not written
    if there is none."""
    most_labels: int = Field(default=0, ge=0, exclude_if=lambda most: most == 0)
    """Maximum number of labels per row, counted in the same way; 0, and not written, for none."""

    @property
    def threshold_array(self) -> Float32Array:
        """(labels,) float32."""
        return np.asarray(self.thresholds, dtype=np.float32)


class MultilabelKind(LabelSetKind):
    """See `schemas.kinds.base.Kind`."""

    NAME = "multilabel"
    Options = MultilabelOptions
    Decision = MultilabelDecision
    Evidence = DecisionEvidence

    def output(self, width: int) -> OutputSpec:
        """Logits, (rows, labels)."""
        return OutputSpec("logits", width)

    def check(self, labels: Sequence[str], decision: MultilabelDecision) -> None:
        """Raise ValueError unless there is one value a label, and parents are labels."""
        values_by_name: dict[str, Sequence[object]] = {
            "thresholds": decision.thresholds,
            "calibration.scale": decision.calibration.scale,
            "calibration.bias": decision.calibration.bias,
        }
        if decision.calibration.method == "isotonic":
            values_by_name["calibration.knots"] = decision.calibration.knots
        check_lengths(values_by_name, labels)
        check_parents(decision.parents, labels)
        check_set_size(decision)
        check_enough_labels(decision, labels, decision.parents)

    def check_evidence(self, labels: Sequence[str], evidence: BaseModel) -> None:
        """Raise ValueError unless there is one value a label."""
        assert isinstance(evidence, DecisionEvidence)
        check_lengths(
            {
                "evidence.intervals": evidence.intervals,
                "evidence.positives": evidence.positives,
                "evidence.before.ece": evidence.before.ece,
                "evidence.before.brier": evidence.before.brier,
                "evidence.after.ece": evidence.after.ece,
                "evidence.after.brier": evidence.after.brier,
            },
            labels,
        )

    def decide(
        self,
        outputs: Sequence[Float32Array],
        labels: tuple[str, ...],
        decision: MultilabelDecision,
        texts: Sequence[TokenizedText],
    ) -> LabelSets:
        """Calibrate, and mark the labels that reach their threshold.

        A coarse label takes the highest probability of its fine ones if its own is lower, and is
        decided with any of them, so that answers are consistent (`schemas.decision.levels`). Limits
        on the number of labels come last (`schemas.decision.set_rule`).
        outputs: logits of each text, (labels,) float32.
        """
        logits = np.stack(outputs) if len(outputs) else np.zeros((0, len(labels)), np.float32)
        rule = SetRule.of(labels, decision, decision.parents)
        probabilities = rule.tree.probabilities(calibrate(logits, decision.calibration))
        decided = rule.decide(probabilities, decision.threshold_array)
        return LabelSets(labels, probabilities, decided, rule.tree)
