"""Every loss against a plain reading of its published formula, one element at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from trainer.losses.sigmoid import LOSSES, make_loss
from trainer.losses.terms import (
    auto_mu,
    class_balanced_weights,
    focal,
    logit_shift,
    positive_weights,
    rebalanced_weights,
)

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Batch: TypeAlias = tuple[Floats, Ints, Ints, int]

FOCAL = {"gamma": 2.0}
CLASS_BALANCED = {**FOCAL, "beta": 0.9}
REBALANCED = {**FOCAL, "alpha": 0.1, "beta": 10.0, "mu": 0.9}
TOLERANT = {"kappa": 0.05, "lambda_": 2.0}
PUBLISHED: Mapping[str, dict[str, float]] = {
    "bce": {"positive_power": 0.0},
    "focal": FOCAL,
    "cb": CLASS_BALANCED,
    "r-fl": REBALANCED,
    "ntr-fl": {**FOCAL, **TOLERANT},
    "db": {**REBALANCED, **TOLERANT},
    "cb-ntr": {**CLASS_BALANCED, **TOLERANT},
    "asl": {"gamma_pos": 0.0, "gamma_neg": 4.0, "clip": 0.05},
}
RANGES = {
    "gamma": st.floats(0, 4),
    "alpha": st.floats(0, 2),
    "mu": st.floats(-1, 1),
    "kappa": st.floats(0, 1),
    "lambda_": st.floats(0.5, 3),
    "positive_power": st.floats(0, 1),
    "gamma_pos": st.floats(0, 4),
    "gamma_neg": st.floats(1, 6),
    "clip": st.floats(0.01, 0.3),
}
EVERY = pytest.mark.parametrize("name", sorted(PUBLISHED))


def sigmoid(z: float) -> float:
    """The textbook form."""
    return 1 / (1 + math.exp(-z))


def weight_by_the_book(
    name: str, row: Ints, counts: Ints, label: int, rows: int, given: Mapping[str, float]
) -> float:
    """The factor of one element."""
    n = int(counts[label])
    if name in {"cb", "cb-ntr"}:
        return (1 - given["beta"]) / (1 - given["beta"] ** n)
    if name in {"r-fl", "db"}:
        row_sum = sum(1 / counts[j] for j in range(len(counts)) if row[j] == 1)
        r = (1 / n) / row_sum
        return given["alpha"] + sigmoid(given["beta"] * (r - given["mu"]))
    if name == "bce" and row[label] == 1:
        return float(((rows - n) / n) ** given["positive_power"])
    return 1.0


def element_by_the_book(
    name: str, z: float, y: int, n: int, rows: int, given: Mapping[str, float]
) -> float:
    """The unweighted loss of one element."""
    if name == "asl":
        p = sigmoid(z)
        p_m = max(p - given["clip"], 0)
        if y:
            return -math.pow(1 - p, given["gamma_pos"]) * math.log(p)
        return -math.pow(p_m, given["gamma_neg"]) * math.log(1 - p_m)
    gamma = given.get("gamma", 0.0)
    b = -math.log(1 / (n / rows) - 1)
    v = -given.get("kappa", 0.0) * b
    lambda_ = given.get("lambda_", 1.0)
    if y:
        q = sigmoid(z - v)
        return -math.pow(1 - q, gamma) * math.log(q)
    q = sigmoid(lambda_ * (z - v))
    return -1 / lambda_ * math.pow(q, gamma) * math.log(1 - q)


def by_the_book(name: str, batch: Batch, given: Mapping[str, float]) -> float:
    """Mean loss of rows that all have a positive label."""
    logits, labels, counts, rows = batch
    return float(
        np.mean(
            [
                weight_by_the_book(name, labels[k], counts, i, rows, given)
                * element_by_the_book(
                    name, logits[k, i], int(labels[k, i]), int(counts[i]), rows, given
                )
                for k in range(logits.shape[0])
                for i in range(logits.shape[1])
            ]
        )
    )


def ours(name: str, batch: Batch, **parameters: Any) -> float:
    """The loss under test."""
    logits, labels, counts, rows = batch
    loss = make_loss(name, positives=counts, rows=rows, **parameters)
    return loss(torch.from_numpy(logits), torch.from_numpy(labels)).item()


@st.composite
def labelled_batches(draw: st.DrawFn) -> Batch:
    """Logits, labels with a positive in every row, and counts strictly between 0 and rows."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    logits = draw(hnp.arrays(np.float64, shape, elements=st.floats(-8, 8)))
    labels = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1)))
    labels[:, draw(st.integers(0, shape[1] - 1))] = 1
    rows = draw(st.integers(2, 100_000))
    counts = draw(hnp.arrays(np.int64, shape[1], elements=st.integers(1, rows - 1)))
    return logits, labels, counts, rows


def test_every_loss_has_a_reference_here() -> None:
    """A loss cannot be added without its formula being checked."""
    assert set(PUBLISHED) == set(LOSSES)


@EVERY
@given(batch=labelled_batches())
@settings(max_examples=40, deadline=None)
def test_loss_equals_its_formula(name: str, batch: Batch) -> None:
    """With its defaults each loss is its formula with the published parameters."""
    assert ours(name, batch) == pytest.approx(
        by_the_book(name, batch, PUBLISHED[name]), rel=1e-8, abs=1e-15
    )


@EVERY
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_parameter_is_the_formulas(name: str, data: st.DataObject) -> None:
    """Each parameter does what it does in the formula."""
    logits, labels, counts, rows = data.draw(labelled_batches())
    beta = st.floats(0, 0.999) if name in {"cb", "cb-ntr"} else st.floats(0, 15)
    ranges = {**RANGES, "beta": beta}
    given = data.draw(st.fixed_dictionaries({key: ranges[key] for key in PUBLISHED[name]}))
    batch = (logits / 4, labels, counts, rows)  # keeps the plain formula's rounding error small

    assert ours(name, batch, **given) == pytest.approx(
        by_the_book(name, batch, given), rel=1e-6, abs=1e-12
    )


@EVERY
@pytest.mark.parametrize("gamma", [None, 0.0, 0.5])
def test_gradient_is_the_numerical_gradient(name: str, gamma: float | None) -> None:
    """Gradients are those of finite differences in float64, rows without positives included."""
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.1], [3.0, -0.2, 0.4, -4.0], [1.0, 0.3, -2.0, 0.7]])
    labels = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    chosen = gamma is not None and "gamma" in PUBLISHED[name]
    parameters: dict[str, Any] = {"gamma": gamma} if chosen else {}
    loss = make_loss(name, positives=torch.tensor([900, 100, 10, 1]), rows=1000, **parameters)

    assert torch.autograd.gradcheck(lambda z: loss(z, labels), logits.double().requires_grad_())


def test_focal_downweights_what_is_already_right() -> None:
    """With gamma 2 a positive at 0.3 keeps 0.49 of its BCE, and one at 0.9 keeps 0.01."""
    probabilities = torch.tensor([[0.3, 0.9]], dtype=torch.float64)
    labels = torch.ones(1, 2, dtype=torch.bool)
    logits = torch.logit(probabilities)
    kept = focal(logits, labels, gamma=2.0) / focal(logits, labels)

    torch.testing.assert_close(kept, torch.tensor([[0.49, 0.01]], dtype=torch.float64))


def test_logit_shift_of_known_frequencies() -> None:
    """Frequencies of 1, 10 and 90 percent shift by 0.2298, 0.1099 and -0.1099 at kappa 0.05."""
    shift = logit_shift(torch.tensor([100.0, 1000.0, 9000.0]), 10_000, kappa=0.05)

    torch.testing.assert_close(shift, torch.tensor([0.2298, 0.1099, -0.1099]), atol=5e-5, rtol=0)


@pytest.mark.parametrize("count", [0, 1000])
def test_label_that_never_varies_has_a_finite_shift(count: int) -> None:
    """A label with no positives, or with only positives, is shifted as if half a row differed."""
    shift = logit_shift(torch.tensor([float(count)], dtype=torch.float64), 1000, kappa=0.05)
    expected = math.copysign(0.05 * math.log(2 * 1000 - 1), 1000 / 2 - count)

    assert shift.item() == pytest.approx(expected)


def test_class_balanced_weights_of_known_counts() -> None:
    """With beta 0.9 one row weighs 1, ten weigh 0.1535, a hundred 0.1; none weighs as one."""
    weights = class_balanced_weights(torch.tensor([1.0, 10.0, 100.0, 0.0]), beta=0.9)

    torch.testing.assert_close(weights, torch.tensor([1.0, 0.1535, 0.1, 1.0]), atol=5e-5, rtol=0)


def test_positive_weights_of_known_counts() -> None:
    """A label in 10 of 1,000 rows has 99 negatives for each positive; power 1/2 takes the root."""
    counts = torch.tensor([10.0, 500.0], dtype=torch.float64)

    assert positive_weights(counts, 1000, power=1.0).tolist() == pytest.approx([99, 1])
    assert positive_weights(counts, 1000, power=0.5).tolist() == pytest.approx([99**0.5, 1])


def test_rarer_label_of_a_row_weighs_more() -> None:
    """Of two positives in a row the rarer one has the higher weight, and lone ones are equal."""
    labels = torch.tensor([[True, True], [True, False], [False, True]])
    counts = torch.tensor([1000.0, 10.0])
    weights = rebalanced_weights(labels, counts, alpha=0.1, beta=10.0, mu=0.9)

    assert weights[0, 0] < weights[0, 1]
    assert weights[1, 0] == weights[2, 1]


@pytest.mark.parametrize(("beta", "mu"), [(10.0, 0.9), (3.0, 0.2)])
def test_row_without_positives_has_the_middle_weight(beta: float, mu: float) -> None:
    """A row without positive labels weighs alpha + 1/2 on every label, not the maximum."""
    labels = torch.zeros(1, 3, dtype=torch.bool)
    counts = torch.tensor([900.0, 100.0, 1.0], dtype=torch.float64)
    weights = rebalanced_weights(labels, counts, alpha=0.1, beta=beta, mu=mu)

    assert weights.tolist() == [[0.6, 0.6, 0.6]]


def mu_by_the_book(labels: Ints, counts: Ints) -> float:
    """Mean of the mean and the median of the r values of all positive labels."""
    values: list[float] = []
    for row in labels:
        inverse = [1 / counts[label] for label in np.flatnonzero(row)]
        values.extend(value / sum(inverse) for value in inverse)
    return float((np.mean(values) + np.median(values)) / 2)


@given(
    hnp.arrays(
        np.int64, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.integers(0, 1)
    )
)
@settings(max_examples=60, deadline=None)
def test_auto_mu_is_the_middle_of_the_r_values(labels: Ints) -> None:
    """`mu="auto"` is the mean of mean and median of r over the training rows' labels."""
    counts = np.maximum(labels.sum(axis=0), 1)
    if not labels.any():
        with pytest.raises(ValueError, match="no training row has a label"):
            auto_mu(torch.from_numpy(labels).bool(), torch.from_numpy(counts).double())
        return
    mu = auto_mu(torch.from_numpy(labels).bool(), torch.from_numpy(counts).double())

    assert mu == pytest.approx(mu_by_the_book(labels, counts))


@pytest.mark.parametrize("name", ["r-fl", "db"])
@pytest.mark.parametrize("known", [True, False])
def test_auto_mu_is_the_same_as_its_number(name: str, known: bool) -> None:
    """With the training labels, or with counts that leave no doubt, `auto` stands for a number."""
    labels = torch.tensor([[1, 0, 0]] * 6 + [[0, 1, 0]] * 3 + [[1, 0, 1]])
    counts = labels.sum(dim=0)
    logits = torch.linspace(-2, 2, labels.numel()).reshape(labels.shape)
    number = mu_by_the_book(labels.numpy(), counts.numpy())
    seen = labels if known else None
    auto = make_loss(name, positives=counts, rows=10, training_labels=seen, mu="auto")
    by_hand = make_loss(name, positives=counts, rows=10, mu=number)

    torch.testing.assert_close(auto(logits, labels), by_hand(logits, labels))


def test_asymmetric_loss_without_asymmetry_is_focal() -> None:
    """Equal exponents and no clipping give the focal loss."""
    logits = torch.linspace(-6, 6, 12, dtype=torch.float64).reshape(3, 4)
    labels = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
    counts = torch.tensor([1, 1, 0, 1])
    same = make_loss("asl", positives=counts, rows=3, gamma_pos=2, gamma_neg=2, clip=0)
    plain = make_loss("focal", positives=counts, rows=3)

    torch.testing.assert_close(same(logits, labels), plain(logits, labels))


def test_asymmetric_loss_drops_easy_negatives() -> None:
    """A negative below the clip costs nothing and pulls at nothing."""
    logits: Tensor = torch.logit(torch.tensor([[0.04, 0.5]])).requires_grad_()
    loss = make_loss("asl", positives=torch.tensor([1, 1]), rows=2)
    loss(logits, torch.zeros(1, 2)).backward()  # type: ignore[no-untyped-call]

    assert logits.grad is not None
    assert logits.grad[0, 0] == 0.0
    assert logits.grad[0, 1] > 0.0
