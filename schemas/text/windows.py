"""Windows of long texts: where they are, and which of their tokens count.

A window is as long as every other of its text: the last one ends with the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_WINDOWS = 1024
"""Largest number of windows that a text may be read in."""

WindowPooling = Literal["mean", "max", "lse"]
"""From the outputs of a text's windows to one: the mean of each number, the largest, or `lse`, the
logarithm of the mean of their exponentials (Pinheiro, Collobert, 2015, From Image-level to
Pixel-level Labeling with Convolutional Networks, CVPR, eq. 6, r = 1), which is near the largest for
numbers that are far apart and near the mean for others."""

NumberT = TypeVar("NumberT", bound=np.generic)


def check_stride(stride: int, tokens: int) -> None:
    """Raise ValueError for windows of so many tokens that leave out some of a text."""
    if stride > tokens:
        raise ValueError(
            f"stride {stride} is more than the {tokens} tokens of a window, so that tokens between "
            "two windows would not be read"
        )


class WindowSpec(BaseModel):
    """Windows in which a task reads texts that are longer than one; stored in the artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int = Field(ge=8)
    """Of a window, special tokens included."""
    stride: int = Field(ge=1)
    """Tokens from the beginning of a window to the beginning of the next one."""
    max_windows: int = Field(ge=2, le=MOST_WINDOWS)
    """What is behind the last of them is not read."""
    pooling: WindowPooling | None
    """None for a task whose outputs belong to tokens: each is taken from one window."""

    @model_validator(mode="after")
    def _leaves_nothing_out(self) -> Self:
        check_stride(self.stride, self.tokens)
        return self

    @property
    def most_tokens(self) -> int:
        """Largest number of tokens that is read of a text."""
        return self.tokens + (self.max_windows - 1) * self.stride

    @property
    def layout(self) -> tuple[int, int, int]:
        """All that the token ids of windows depend on."""
        return self.tokens, self.stride, self.max_windows


def most_tokens(windows: WindowSpec | None, max_tokens: int) -> int:
    """Largest number of tokens that is read of a text. max_tokens: that the model reads at once."""
    return max_tokens if windows is None else windows.most_tokens


def layout_of(windows: WindowSpec | None) -> tuple[int, int, int] | None:
    """All that the token ids of windows depend on; None without windows."""
    return None if windows is None else windows.layout


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one tokenized text.

    starts: first token of each among the tokens of the text, special ones not counted.
    room: tokens of each window but for special ones. before, after: special tokens around the
    text, and around the tokens of every window.
    """

    starts: tuple[int, ...]
    room: int
    before: int
    after: int

    @classmethod
    def over(cls, tokens: int, *, room: int, stride: int, before: int, after: int) -> Self:
        """Windows over so many tokens, more than `room`, special ones not counted."""
        last = tokens - room
        return cls((*range(0, last, stride), last), room, before, after)

    def cut(self, values: npt.NDArray[NumberT]) -> list[npt.NDArray[NumberT]]:
        """(seq, ...) values of the tokens of the text to those of each window."""
        before, after = values[: self.before], values[len(values) - self.after :]
        return [
            np.concatenate([before, values[first : first + self.room], after])
            for first in (self.before + start for start in self.starts)
        ]

    @property
    def own(self) -> list[slice]:
        """Tokens of each window that are nearer to its middle than to that of any other window.

        One after the other they are all tokens of the text. So each token gets the output of the
        window in which it has most context (Devlin, Chang, Lee, Toutanova, 2019, BERT: Pre-training
        of Deep Bidirectional Transformers, NAACL: `max_context` in the code for SQuAD).
        """
        middles = [(one + other + self.room) // 2 for one, other in pairwise(self.starts)]
        firsts = [
            0,
            *(m - start + self.before for m, start in zip(middles, self.starts[1:], strict=True)),
        ]
        ends = [m - start + self.before for m, start in zip(middles, self.starts, strict=False)]
        ends.append(self.before + self.room + self.after)
        return [slice(first, end) for first, end in zip(firsts, ends, strict=True)]


def pool_windows(outputs: npt.NDArray[Any], pooling: WindowPooling) -> npt.NDArray[np.float32]:
    """(windows, numbers) outputs of a text's windows to (numbers,) float32.

    Computed in float64 and rounded once.
    """
    exact = np.ascontiguousarray(outputs, np.float64)
    if pooling == "mean":
        pooled = exact.mean(axis=0)
    elif pooling == "max":
        pooled = exact.max(axis=0)
    else:
        largest = exact.max(axis=0)
        pooled = largest + np.log(np.exp(exact - largest).mean(axis=0))
    return np.asarray(pooled, np.float32)
