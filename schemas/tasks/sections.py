"""Sections of the config that tasks of several kinds share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

HeadKind = Literal["mean", "label_attention"]
"""From hidden states to logits, see `trainer.model.heads`."""

HeadStart = Literal["names", "random"]
"""Initial weights of a head, see `trainer.model.label_names`."""

Sampling = Literal["none", "repeat_factor", "class_aware"]
"""How often rows with rare labels are drawn, see `trainer.data.sampling`."""


class Section(BaseModel):
    """A part of the config."""

    # `use_attribute_docstrings`: docs/config.md is made from the text below each field.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class LossConfig(Section):
    """Which loss a task is trained with."""

    name: str = "ntr-fl"
    """A name that `trainer.losses.sigmoid.make_loss` knows."""
    parameters: dict[str, float | Literal["auto"]] = Field(default_factory=dict)
    """Parameters of that loss that differ from its published defaults; `mu` may be `auto`."""


class TaskOptions(Section):
    """What only a task of one kind may set in the config."""

    decision: Section
    """How outputs become answers, chosen on the held-out rows at export."""
