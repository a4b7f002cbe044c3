"""The terms that multi-label losses are made of, as pure functions, which
`trainer.losses.sigmoid` joins.

`focal` is the core of every loss here but one. What balances it comes from outside: a weight for
each element (`class_balanced_weights`, `rebalanced_weights`, `positive_weights`), a shift of each
label's logit (`logit_shift`), and a factor that steepens the negative branch (`lambda_`).
`asymmetric` is a core of its own.

Sources:
    Lin, Goyal, Girshick, He, Dollar (2017), Focal Loss for Dense Object Detection, eq. 4.
    Cui, Jia, Lin, Song, Belongie (2019), Class-Balanced Loss Based on Effective Number of Samples,
    CVPR, eq. 3.
    Wu, Huang, Liu, Wang, Lin (2020), Distribution-Balanced Loss for Multi-Label Classification in
    Long-Tailed Datasets, ECCV, sections 3.1 (weights) and 3.2 (negative-tolerant regularization).
    Huang, Giledereli, Koksal, Ozgur, Ozkirimli (2021), Balancing Methods for Multi-label Text
    Classification with Long-Tailed Class Distribution, EMNLP: the focal forms and their defaults.
    Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor (2021), Asymmetric Loss For
    Multi-Label Classification, ICCV, eq. 4 to 7.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

BIAS_CLAMP_ROWS = 0.5
"""Rows by which a label that is always or never positive is moved off p = 0 or p = 1."""


def focal(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 0.0,
    weights: Tensor | None = None,
    shift: Tensor | None = None,
    lambda_: float = 1.0,
) -> Tensor:
    """Focal loss of each element; with the defaults it is binary cross-entropy.

    With z a logit, v its label's shift and w the element's weight:

        positive: -w (1 - q)^gamma log q,                q = sigmoid(z - v)
        negative: -(w / lambda) q^gamma log(1 - q),      q = sigmoid(lambda (z - v))

    logits: (rows, labels) float.
    labels: (rows, labels) bool, True where the label applies.
    gamma: focusing exponent, >= 0; 0 switches focusing off.
    weights: (rows, labels) float, or anything that broadcasts to it; None means 1 everywhere.
    shift: (labels,) float, the v above; None means 0.
    lambda_: steepness of the negative branch, > 0.
    Returns (rows, labels) in the dtype of `logits`. Values and gradients are finite for any finite
    logit whose product with `lambda_` is finite, because everything is computed from log sigmoids.

    Source: Lin et al. 2017, eq. 4; Wu et al. 2020, section 3.2; Huang et al. 2021, section 2.
    """
    shifted = logits if shift is None else logits - shift  # (rows, labels)
    margin = torch.where(labels, shifted, -lambda_ * shifted)  # > 0 where the side is right
    # A power of sigmoid(-margin) has an infinite slope at 0 when gamma < 1; this form has not.
    modulation = torch.exp(gamma * logsigmoid(-margin))
    losses = -modulation * logsigmoid(margin)
    if lambda_ != 1.0:
        losses = torch.where(labels, losses, losses / lambda_)
    return losses if weights is None else weights * losses


def label_share(labels: Tensor, positives: Tensor) -> Tensor:
    """Share of each label in its row under class-balanced sampling: r, before it is smoothed.

        r_i = (1 / n_i) / sum over the row's positive labels j of (1 / n_j)

    labels: (rows, labels) bool.
    positives: (labels,) float training counts n; a count of 0 is taken as 1, the rarest a label
        that does turn up can be.
    Returns (rows, labels) in the dtype of `positives`; NaN all over a row without any positive.

    Source: Wu et al. 2020, section 3.1; Huang et al. 2021, section 2.
    """
    inverse = 1.0 / positives.clamp(min=1.0)  # (labels,)
    # Not a matrix product: autocast would take that to half precision.
    row_total = torch.where(labels, inverse, 0.0).sum(dim=-1, keepdim=True)  # (rows, 1)
    return inverse / torch.where(labels.any(dim=-1, keepdim=True), row_total, torch.nan)


def auto_mu(labels: Tensor, positives: Tensor) -> float:
    """Middle of the r values of all positive elements: the mean of their mean and their median.

    labels: (rows, labels) bool, the gold labels of the training rows.
    positives: (labels,) float training counts.
    Raises ValueError if no row has a label. On Reuters-21578 this gives 0.904, the published 0.9.

    Source: the choice of mu in the public experiments of Huang et al. 2021.
    """
    shares = label_share(labels, positives)[labels]
    if not shares.numel():
        raise ValueError("mu cannot be found: no training row has a label")
    # torch.median is the lower of two middle values, quantile their mean; quantile has a size limit
    ordered = shares.sort().values
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return float((shares.mean() + middle) / 2)


def rebalanced_weights(
    labels: Tensor, positives: Tensor, *, alpha: float, beta: float, mu: float
) -> Tensor:
    """Weight each element by its label's share of the row under class-balanced sampling.

        r_hat = alpha + sigmoid(beta (r - mu)),    r as in `label_share`

    labels: (rows, labels) bool.
    positives: (labels,) float training counts n.
    Returns (rows, labels) in the dtype of `positives`, each in [alpha, alpha + 1].

    A row without any positive label has an empty sum, and the formula read literally would give
    its every element the highest weight, alpha + 1. Here such a row has r = mu, thus the middle
    weight alpha + 1/2 on every label, whatever beta and mu are. The lowest weight was the other
    candidate: but in a labelled row the negatives lie on both sides of the middle (those of rarer
    labels near alpha + 1, those of commoner ones near alpha), so the middle treats an article
    about nothing like an average one, and the lowest would nearly drop it from training.

    Source: Wu et al. 2020, section 3.1 (re-balanced weighting); Huang et al. 2021, section 2.
    """
    share = label_share(labels, positives).nan_to_num(nan=mu)
    return alpha + torch.sigmoid(beta * (share - mu))


def class_balanced_weights(positives: Tensor, *, beta: float) -> Tensor:
    """Weight each label by the inverse of its effective number of training rows.

        r_i = (1 - beta) / (1 - beta^n_i)

    positives: (labels,) float training counts n; a count of 0 is taken as 1.
    beta: in [0, 1); 0 weighs all labels alike, and near 1 the weight is that of 1 / n.
    Returns (labels,), each in [1 - beta, 1].

    Source: Cui et al. 2019, eq. 3; Huang et al. 2021, section 2 (beta 0.9).
    """
    exponent = positives.clamp(min=1.0) * torch.tensor(beta, dtype=positives.dtype).log()
    return (1.0 - beta) / -torch.expm1(exponent)


def positive_weights(positives: Tensor, rows: int, *, power: float) -> Tensor:
    """Weight of each label's positives against its negatives.

        w_i = ((rows - n_i) / n_i)^power

    positives: (labels,) float training counts n, kept within half a row of 0 and `rows`.
    power: 0 gives 1, 1 makes a label's positives weigh as much as its negatives together.
    Returns (labels,) > 0.

    Source: King and Zeng (2001), Logistic Regression in Rare Events Data, eq. 6, for power 1.
    """
    return torch.exp(-power * log_odds(positives, rows))


def log_odds(positives: Tensor, rows: int) -> Tensor:
    """Log odds of each label: b_i = -log(1 / p_i - 1), p_i = n_i / rows.

    positives: (labels,) float training counts n. Returns (labels,). p is kept within half a row of
    0 and 1, so that a label which is never or always positive has finite odds.
    """
    edge = BIAS_CLAMP_ROWS / rows
    return torch.logit((positives / rows).clamp(min=edge, max=1.0 - edge))


def logit_shift(positives: Tensor, rows: int, *, kappa: float) -> Tensor:
    """Shift of each label's logit that allows for how often the label is positive.

        v_i = -kappa b_i,    b_i as in `log_odds`

    positives: (labels,) float training counts n.
    rows: number of training rows.
    Returns (labels,): positive for labels below p = 1/2, negative above.

    Source: Wu et al. 2020, section 3.2 (negative-tolerant regularization).
    """
    return -kappa * log_odds(positives, rows)


def asymmetric(
    logits: Tensor, labels: Tensor, *, gamma_pos: float, gamma_neg: float, clip: float
) -> Tensor:
    """Asymmetric loss of each element.

        positive: -(1 - p)^gamma_pos log p,           p = sigmoid(z)
        negative: -p_m^gamma_neg log(1 - p_m),        p_m = max(p - clip, 0)

    logits: (rows, labels) float. labels: (rows, labels) bool.
    gamma_pos, gamma_neg: focusing exponents, >= 0.
    clip: probability below which a negative costs nothing, in [0, 1).
    Returns (rows, labels). With gamma_pos = gamma_neg and clip 0 it is the focal loss.

    Source: Ridnik et al. 2021, eq. 4 to 7.
    """
    positive = torch.exp(gamma_pos * logsigmoid(-logits)) * logsigmoid(logits)
    if clip == 0.0:
        negative = torch.exp(gamma_neg * logsigmoid(logits)) * logsigmoid(-logits)
    else:
        probability = torch.sigmoid(logits) - clip
        counted = probability > 0
        # Both branches of a where are differentiated: what is not counted must stay harmless.
        excess = torch.where(counted, probability, 0.5)  # p_m
        negative = torch.where(counted, excess**gamma_neg * torch.log1p(-excess), 0.0)
    return -torch.where(labels, positive, negative)
