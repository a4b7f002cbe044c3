"""The logit term from the tokens of a marked entity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from schemas.text.model_text import ENTITY_END, ENTITY_START
from trainer.model.pooling import mean_pool


@dataclass(frozen=True)
class MarkerIds:
    """Token ids of the markers around an entity."""

    start: int
    end: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Marker ids of a tokenizer that has the markers."""
        return cls(tokenizer.token_to_id(ENTITY_START), tokenizer.token_to_id(ENTITY_END))


def entity_mask(input_ids: Tensor, attention_mask: Tensor, markers: MarkerIds) -> Tensor:
    """1 from the start marker to the end marker, both included, 0 elsewhere; (rows, seq) int64.

    Both arguments are (rows, seq) int64. An entity whose end is cut off reaches to the last token.
    """
    starts, ends = ((input_ids == marker).long() for marker in (markers.start, markers.end))
    starts_until_here = torch.cumsum(starts, dim=1)
    ends_before = torch.cumsum(ends, dim=1) - ends
    return (starts_until_here - ends_before).clamp(0, 1) * attention_mask


class EntityTerm(nn.Module):
    """A linear layer over the mean of the tokens of the marked entity, added to a head's output.

    The mean of a whole text is the same for all its entities but for what the markers change; the
    encoder's vectors of the entity's own tokens say what is written about this one.

    hidden: width of the encoder. labels: width of the output. dropout: share of the mean's values
    that are zeroed while training.

    Source: Wu, He (2019), Enriching Pre-trained Language Model with Entity Information for Relation
    Classification, CIKM: the mean of an entity's tokens beside the vector of the text. Markers as
    in Baldini Soares, FitzGerald, Ling, Kwiatkowski (2019), Matching the Blanks, ACL.
    """

    def __init__(self, hidden: int, labels: int, markers: MarkerIds, *, dropout: float) -> None:
        super().__init__()
        self.markers = markers
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, labels, bias=False)

    def forward(self, hidden_states: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(rows, seq, hidden) and twice (rows, seq) to (rows, labels)."""
        mask = entity_mask(input_ids, attention_mask, self.markers)
        term: Tensor = self.linear(self.dropout(mean_pool(hidden_states, mask)))
        return term
