"""Heads: from an encoder's hidden states to one task's output."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from schemas.kinds.embedding import Pooling
from schemas.tasks.sections import HeadKind
from trainer.model.entity import EntityTerm, MarkerIds
from trainer.model.lexical import LexicalTerm
from trainer.model.pooling import MASKED, POOLINGS, mean_pool

NAME_SCORE = 10.0
"""Score, before the softmax, that about a label's own name has in a head that starts from names."""
NAME_LOGIT = 5.0
"""What about a label's own name adds to its logit there."""
SHORTEST = 1e-12
"""Length below which a vector is not scaled to 1."""
ALIKE = 1e-4
"""Share of their length by which vectors must differ to count as different."""


class Head(nn.Module):
    """From hidden states to the output of a task.

    layers: last layers of the encoder whose mean the head takes. width: of the output.
    lexical: term of the tokens by themselves, if any.
    entity: term of the tokens of a marked entity, if the head reads one.
    neighbours: nearest reference texts that the head names where it is called with
    `with_neighbours=True`; 0 for a head that does not take it.
    reversal: weight with which its gradient reaches the encoder turned around; 0 for most.
    """

    layers = 1
    reversal = 0.0
    width: int
    neighbours = 0

    def __init__(self) -> None:
        super().__init__()
        self.lexical: LexicalTerm | None = None
        self.entity: EntityTerm | None = None

    def forward(self, hidden_states: Tensor, attention_mask: Tensor, input_ids: Tensor) -> Tensor:
        """(rows, seq, hidden) and twice (rows, seq) to the task's output, (rows, ...).

        All that a head computes is called from here, so that its nodes in a graph have its name.
        """
        output = self.from_states(hidden_states, attention_mask)
        if self.lexical is not None and self.lexical.feature_count:
            output = output + self.lexical(input_ids, attention_mask)
        if self.entity is not None:
            output = output + self.entity(hidden_states, input_ids, attention_mask)
        return output

    def from_states(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """(rows, seq, hidden) and (rows, seq) to the output without terms, (rows, ...)."""
        raise NotImplementedError


class MeanHead(Head):
    """A linear layer over the mean of the real tokens.

    hidden: width of the encoder. labels: number of logits. dropout: share of the mean's values
    that are zeroed while training. markers: of the entity, for a task that marks one; its tokens
    then add a term.
    """

    def __init__(
        self,
        hidden: int,
        labels: int,
        *,
        dropout: float = 0.0,
        markers: MarkerIds | None = None,
    ) -> None:
        super().__init__()
        self.width = labels
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, labels)
        self.lexical = LexicalTerm(labels)
        if markers is not None:
            self.entity = EntityTerm(hidden, labels, markers, dropout=dropout)

    @torch.no_grad()
    def start_from_shares(self, wanted: Tensor, outputs: Tensor) -> None:
        """Begin with logits that are, in the mean, those of the frequency of each label.

        Losses for rare labels, such as `ntr-fl`, are lowest above these logits. So the first steps
        raise what rows with a label have, where from higher logits they would lower the outputs of
        all rows, and with them what the encoder and the names of the labels said.

        wanted: logits of the frequencies, (labels,).
        outputs: of the head as it is, for some texts, (rows, labels).

        Source: Lin, Goyal, Girshick, He, Dollar (2017), Focal Loss for Dense Object Detection,
        ICCV, section 3.3.
        """
        self.linear.bias.add_(wanted - outputs.mean(dim=0))

    def from_states(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """(rows, seq, hidden) and (rows, seq) to logits, (rows, labels)."""
        logits: Tensor = self.linear(self.dropout(mean_pool(hidden_states, attention_mask)))
        return logits


class LabelAttentionHead(MeanHead):
    """A `MeanHead` plus, for each label, a look at the tokens that speak for it.

        logit_l = mean_l + sum over tokens s of a_sl (w_l . h_s),
        a_l = softmax over tokens of (q_l . tanh(K h_s))

    A label that one word gives away is not thinned out by the other hundred, and an article of
    several topics can answer each from its own sentences.

    Source: Mullenbach, Wiegreffe, Duke, Sun, Eisenstein (2018), Explainable Prediction of Medical
    Codes from Clinical Text, NAACL, eq. 2 and 3; the projection with tanh as in Vu, Nguyen, Nguyen
    (2020), A Label Attention Model for ICD Coding from Clinical Text, IJCAI, eq. 4.
    """

    def __init__(
        self,
        hidden: int,
        labels: int,
        *,
        dropout: float = 0.0,
        markers: MarkerIds | None = None,
    ) -> None:
        super().__init__(hidden, labels, dropout=dropout, markers=markers)
        self.key = nn.Linear(hidden, hidden)
        self.query = nn.Linear(hidden, labels, bias=False)
        self.value = nn.Linear(hidden, labels, bias=False)

    @torch.no_grad()
    def start_from_names(self, vectors: Tensor) -> None:
        """Begin with what the encoder makes of the labels' names, in place of random weights.

        A label then looks at tokens like its name, and such tokens speak for it. What all names
        have in common is taken off first, and the scale follows from how far apart they are.
        Vectors that are all alike change nothing.

        vectors: (labels, hidden), the mean hidden state of each name.
        Source: label embeddings in the space of the words, Wang, Li, Wang, Zhang, Shen, Zhang,
        Henao, Carin (2018), Joint Embedding of Words and Labels for Text Classification, ACL.
        """
        apart = vectors - vectors.mean(dim=0)
        lengths = apart.norm(dim=1, keepdim=True)  # (labels, 1)
        spread = lengths.mean()
        if spread <= ALIKE * vectors.norm(dim=1).mean():
            return
        directions = apart / lengths.clamp(min=ALIKE * spread) / spread
        nn.init.eye_(self.key.weight)
        nn.init.zeros_(self.key.bias)
        self.query.weight.copy_(NAME_SCORE * directions)
        self.value.weight.copy_(NAME_LOGIT * directions)

    def from_states(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """(rows, seq, hidden) and (rows, seq) to logits, (rows, labels)."""
        scores = self.query(torch.tanh(self.key(hidden_states)))  # (rows, seq, labels)
        padded = (1 - attention_mask).unsqueeze(-1).to(scores.dtype)  # (rows, seq, 1)
        weights = torch.softmax(scores + MASKED * padded, dim=1)
        values = self.value(self.dropout(hidden_states))  # w_l . h_s, (rows, seq, labels)
        attended: Tensor = (weights * values).sum(dim=1)
        return super().from_states(hidden_states, attention_mask) + attended


HEADS: dict[HeadKind, type[MeanHead]] = {"mean": MeanHead, "label_attention": LabelAttentionHead}


def make_heads(
    encoder: PreTrainedModel,
    labels: Mapping[str, int],
    *,
    heads: Mapping[str, HeadKind] = MappingProxyType({}),
    dropout: float = 0.0,
    markers: MarkerIds | None = None,
) -> dict[str, MeanHead]:
    """Heads of tasks with so many labels; `mean` where `heads` names none.

    markers: of the entity that all of them read, if any.
    """
    hidden = encoder.config.hidden_size
    return {
        task: HEADS[heads.get(task, "mean")](hidden, count, dropout=dropout, markers=markers)
        for task, count in labels.items()
    }


class EmbeddingHead(Head):
    """One vector a text: pooled tokens, projected and scaled to length 1 where that is wanted.

    hidden: width of the encoder. dimension: of the vectors; if less, `projection` must be set
    before the head is of use.

    Source: Reimers, Gurevych (2019), Sentence-BERT: Sentence Embeddings using Siamese
    BERT-Networks, EMNLP; projection as the `Dense` layer of sentence-transformers.
    """

    def __init__(
        self, hidden: int, *, pooling: Pooling, layers: int, dimension: int, normalize: bool
    ) -> None:
        super().__init__()
        self.layers, self.width = layers, dimension
        self._pool, self._normalize = POOLINGS[pooling], normalize
        projection = torch.zeros(dimension, hidden) if dimension < hidden else None
        self.register_buffer("projection", projection)
        self.projection: Tensor | None

    def from_states(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """(rows, seq, hidden) and (rows, seq) to vectors, (rows, dimension)."""
        vectors = self._pool(hidden_states, attention_mask)
        if self.projection is not None:
            vectors = vectors @ self.projection.T
        return at_length_1(vectors) if self._normalize else vectors


class TokenHead(Head):
    """A linear layer over each token.

    hidden: width of the encoder. tags: numbers a token. dropout: share of the values that are
    zeroed while training.
    """

    def __init__(self, hidden: int, tags: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.width = tags
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, tags)

    def from_states(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """(rows, seq, hidden) and (rows, seq) to logits, (rows, seq, tags)."""
        logits: Tensor = self.linear(self.dropout(hidden_states))
        return logits


def at_length_1(vectors: Tensor) -> Tensor:
    """(rows, dimension) scaled to length 1; zeros stay zeros."""
    lengths = vectors.pow(2).sum(dim=1, keepdim=True).sqrt()
    return vectors / lengths.clamp(min=SHORTEST)
