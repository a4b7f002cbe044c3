"""Losses that bring vectors of texts with the same labels together, and others apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from schemas.kinds.nearest import Alignment, Pairs

MOMENTUM = 0.9
"""Share of what a label's stored vector keeps when a row of the label comes by."""
NOT_STORED = -1
"""Number of a row that is no training row."""
IMPOSSIBLE = -1e9
"""In place of the similarity with what is no candidate: nothing is left of it after a softmax."""


class AlignmentLoss:
    """Contrast of each row with rows that share a label and rows that do not.

        loss_i = - mean over p of log(exp(z_i . z_p / t) / sum over a of exp(z_i . z_a / t))

    p are the positives and a all candidates, z vectors of length 1.
    alignment: what a row is compared with. `batch`: the other rows of the step. `memory`: a stored
    vector for each label, which follows its rows. `mixed_memory`: both. `datapoint_memory`: the
    last vector of every training row.
    pairs: `all` compares with all candidates; `sampled` with one positive and one negative each.
    temperature: t; the lower, the more the nearest candidates count.
    memory: returns (labels, hidden), or (training rows, hidden) for `datapoint_memory`, zeros for
    what is not stored yet; updated in place. stored_labels: of what is stored, (stored, labels)
    bool. Neither is looked at for `batch`.

    A row without any positive among its candidates counts nothing.

    Source: Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan (2020), Supervised
    Contrastive Learning, NeurIPS, eq. 2; stored vectors as in Wu, Xiong, Yu, Lin (2018),
    Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR.
    """

    def __init__(
        self,
        alignment: Alignment,
        *,
        pairs: Pairs,
        temperature: float,
        memory: Callable[[], Tensor],
        stored_labels: Tensor,
    ) -> None:
        self._alignment, self._pairs, self._temperature = alignment, pairs, temperature
        self._memory, self._stored_labels = memory, stored_labels.float()

    def __call__(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of some rows.

        vectors: (rows, hidden). targets: (rows, 1 + labels) int64, the number of each
        row among the training rows, or `NOT_STORED`, and then which labels it has. What is stored
        follows the rows where a gradient is asked for.
        """
        device = self._memory().device  # held-out rows come from the CPU
        vectors, targets = normalize(vectors.to(device).float(), dim=1), targets.to(device)
        rows, labels = targets[:, 0], targets[:, 1:].float()
        losses = []
        if self._alignment in ("batch", "mixed_memory"):
            itself = torch.eye(len(rows), dtype=torch.bool, device=vectors.device)
            losses.append(self._contrast(vectors, labels, vectors, labels, ~itself))
        if self._alignment != "batch":
            losses.append(self._contrast_with_memory(vectors, labels, rows))
        if vectors.requires_grad and self._alignment != "batch":
            self._remember(vectors.detach(), labels, rows)
        return torch.stack(losses).mean()

    def _contrast_with_memory(self, vectors: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        stored = self._memory().clone()  # it changes before the gradient is taken
        allowed = stored.any(dim=1).expand(len(rows), -1)  # (rows, stored)
        if self._alignment == "datapoint_memory":
            places = torch.arange(len(stored), device=rows.device)
            allowed = allowed & (places != rows[:, None])
        stored_labels = self._stored_labels.to(stored.device)
        return self._contrast(vectors, labels, stored, stored_labels, allowed)

    def _contrast(
        self,
        vectors: Tensor,
        labels: Tensor,
        candidates: Tensor,
        candidate_labels: Tensor,
        allowed: Tensor,
    ) -> Tensor:
        """Mean loss. allowed: (rows, candidates) bool, what a row is compared with."""
        similar = vectors @ candidates.T / self._temperature  # (rows, candidates)
        positive = (labels @ candidate_labels.T > 0) & allowed
        if self._pairs == "sampled":
            negative = allowed & ~positive
            positive, negative = _one_of_each(positive), _one_of_each(negative)
            allowed = positive | negative
        log_shares = torch.log_softmax(torch.where(allowed, similar, IMPOSSIBLE), dim=1)
        counts = positive.sum(dim=1)  # (rows,)
        of_rows = -torch.where(positive, log_shares, 0.0).sum(dim=1) / counts.clamp(min=1)
        return of_rows.sum() / (counts > 0).sum().clamp(min=1)

    @torch.no_grad()
    def _remember(self, vectors: Tensor, labels: Tensor, rows: Tensor) -> None:
        memory = self._memory()
        if self._alignment == "datapoint_memory":
            memory[rows] = vectors
            return
        counts = labels.sum(dim=0)  # (labels,)
        seen = counts > 0
        means = normalize(labels.T @ vectors, dim=1)  # (labels, hidden)
        momentum = torch.where(memory.any(dim=1, keepdim=True), MOMENTUM, 0.0)
        followed = normalize(momentum * memory + (1 - momentum) * means, dim=1)
        memory[seen] = followed[seen]


def _one_of_each(mask: Tensor) -> Tensor:
    """One True of each row that has any, drawn with torch's random numbers; (rows, candidates)."""
    draws = torch.where(mask, torch.rand(mask.shape, device=mask.device), -1.0)
    chosen = torch.zeros_like(mask).scatter_(1, draws.argmax(dim=1, keepdim=True), value=True)
    return chosen & mask
