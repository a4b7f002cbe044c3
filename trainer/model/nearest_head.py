"""Head of tasks that are decided by the nearest of some reference texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.model.heads import EmbeddingHead, Head, at_length_1

LEAST_SUM = 1e-6
"""Sum of weights below which votes fade away: then all neighbours are as far as the next text."""


class NearestHead(Head):
    """Votes of the nearest reference texts, weighted by how much nearer they are than the next one.

        w_i = s_i - s_(k+1),   votes_l = sum over i of w_i labels_il / sum over i of w_i

    s_1 >= s_2 >= ... are the cosines of a text with the references, after the mean of the
    references is taken off: what all texts have in common would hide how they differ. A neighbour
    at the edge has no weight, so that votes do not jump where two references change places, on any
    engine.

    vectors_head: from hidden states to vectors of length 1. trained: give those vectors, in place
    of votes, until there are references: training brings them together.

    Source: Dudani (1976), The Distance-Weighted k-Nearest-Neighbor Rule, IEEE Transactions on
    Systems, Man, and Cybernetics 6(4), with the text after the k-th in place of the k-th. The mean:
    Mu, Viswanath (2018), All-but-the-Top: Simple and Effective Postprocessing for Word
    Representations, ICLR.
    """

    mean: Tensor
    vectors: Tensor
    labels: Tensor
    memory: Tensor
    """What the loss stores while training, (stored, hidden); empty before and afterwards."""

    def __init__(
        self, vectors_head: EmbeddingHead, labels: int, *, neighbours: int, trained: bool = False
    ) -> None:
        super().__init__()
        self.layers, self.width = vectors_head.layers, vectors_head.width if trained else labels
        self._gives_vectors, self._neighbours = trained, neighbours
        self.neighbours = 0 if trained else neighbours
        self._vectors_head = vectors_head
        self.register_buffer("mean", torch.zeros(vectors_head.width))
        self.register_buffer("vectors", torch.zeros(1, vectors_head.width))
        self.register_buffer("labels", torch.zeros(1, labels))
        self.register_buffer("memory", torch.zeros(0, vectors_head.width))

    def set_references(self, vectors: Tensor, labels: Tensor) -> None:
        """Take references: (references, hidden) of length 1, and (references, labels) in [0, 1]."""
        self.mean = vectors.mean(dim=0)
        self.vectors, self.labels = self._centred(vectors).contiguous(), labels.contiguous()
        self.memory = self.memory[:0]
        self._give_votes()

    def _give_votes(self) -> None:
        self._gives_vectors, self.width = False, self.labels.shape[1]
        self.neighbours = self._neighbours

    def _centred(self, vectors: Tensor) -> Tensor:
        """(rows, hidden) without the mean of the references, at length 1."""
        return at_length_1(vectors - self.mean)

    def forward(  # type: ignore[override]  # neighbours are a second output
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor,
        *,
        with_neighbours: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(rows, seq, hidden) and twice (rows, seq) to votes, (rows, labels), that sum to 1.

        A head that is being trained returns (rows, hidden) instead.
        with_neighbours: return also (rows, 2 * neighbours), the cosines of the nearest references
        and then their numbers, which float32 holds exactly.
        """
        vectors = self._vectors_head.from_states(hidden_states, attention_mask)
        if self._gives_vectors:
            return vectors
        vectors = self._centred(vectors)
        cosines = vectors @ self.vectors.T  # (rows, references)
        nearest, places = torch.topk(cosines, self.neighbours + 1, dim=1)
        weights = nearest[:, :-1] - nearest[:, -1:]  # (rows, neighbours)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=LEAST_SUM)
        votes = (weights.unsqueeze(1) @ self.labels[places[:, :-1]]).squeeze(1)  # (rows, labels)
        if not with_neighbours:
            return votes
        numbers = places[:, :-1].to(nearest.dtype)
        return votes, torch.cat([nearest[:, :-1], numbers], dim=1)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: Any, **options: Any
    ) -> None:
        """Take as many references as there are stored."""
        for name in ("vectors", "labels", "memory"):
            if prefix + name in state_dict:
                setattr(self, name, state_dict[prefix + name].clone())
        super()._load_from_state_dict(state_dict, prefix, *rest, **options)
        if self.vectors.any():
            self._give_votes()
