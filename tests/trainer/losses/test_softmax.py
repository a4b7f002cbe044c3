"""What the losses of multiclass and token tasks promise."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from schemas.decision.spans import IGNORED
from tests.strategies import STEADY
from trainer.losses.softmax import (
    CLASS_LOSSES,
    balanced_weights,
    effective_weights,
    focal_cross_entropy,
    make_class_loss,
)

COUNTS = np.array([60, 30, 9, 1])
VARIANTS: list[tuple[str, dict[str, float | str]]] = [
    ("ce", {}),
    ("weighted-ce", {}),
    ("weighted-ce", {"weights": "effective", "beta": 0.9}),
    ("focal-ce", {}),
    ("focal-ce", {"gamma": 0.5, "weights": "balanced"}),
]


def examples(*shape: int, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random logits (*shape, classes) float64 and labels (*shape) int64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*shape, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, shape, generator=generator)


def reference(logits: Tensor, labels: Tensor, *, gamma: float, weights: list[float]) -> float:
    """The weighted focal loss by its formula, in numpy."""
    costs = []
    for row, label in zip(logits.reshape(-1, 4).numpy(), labels.reshape(-1).tolist(), strict=True):
        if label != IGNORED:
            p = np.exp(row[label]) / np.exp(row).sum()
            costs.append(weights[label] * (1 - p) ** gamma * -np.log(p))
    return float(np.mean(costs))


@STEADY
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 9))
def test_ce_is_that_of_torch(seed: int, rows: int) -> None:
    """Without weights the mean over what is not ignored is torch's own."""
    logits, labels = examples(rows, 5, seed=seed)
    labels[0, 1:3] = IGNORED
    loss = make_class_loss("ce", counts=COUNTS)

    expected = cross_entropy(logits.reshape(-1, 4), labels.reshape(-1), ignore_index=IGNORED)
    assert float(loss(logits, labels)) == pytest.approx(float(expected), rel=1e-12)


def test_weighted_ce_sums_as_torch_does() -> None:
    """Class weights multiply each element's cost; the mean is by the number of elements."""
    logits, labels = examples(50)
    weights = balanced_weights(torch.tensor(COUNTS, dtype=torch.float64))

    expected = cross_entropy(logits, labels, weight=weights, reduction="sum") / 50
    assert float(make_class_loss("weighted-ce", counts=COUNTS)(logits, labels)) == pytest.approx(
        float(expected), rel=1e-12
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_ce_follows_its_formula(gamma: float) -> None:
    """(1 - p)^gamma times cross-entropy, weighted, over what is not ignored."""
    logits, labels = examples(6, 7)
    labels[2, 3:] = IGNORED
    weights = [100 / (4 * count) for count in COUNTS.tolist()]
    loss = make_class_loss("focal-ce", counts=COUNTS, gamma=gamma, weights="balanced")

    expected = reference(logits, labels, gamma=gamma, weights=weights)
    assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-9)


def test_focal_ce_of_gamma_0_is_ce() -> None:
    """Without focus every element counts as it is."""
    logits, labels = examples(20)

    assert torch.equal(
        make_class_loss("focal-ce", counts=COUNTS, gamma=0)(logits, labels),
        make_class_loss("ce", counts=COUNTS)(logits, labels),
    )


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_gradients_are_those_of_the_loss(name: str, parameters: dict[str, Any]) -> None:
    """In float64 the gradient is the numerical one, with ignored elements among them."""
    logits, labels = examples(3, 4)
    labels[1, 2:] = IGNORED
    loss = make_class_loss(name, counts=COUNTS, **parameters)

    assert gradcheck(lambda given: loss(given, labels), logits.requires_grad_())


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
@pytest.mark.parametrize("size", [0.0, 1e-4, 50.0, 1e4])
def test_losses_and_gradients_are_finite(
    name: str, parameters: dict[str, Any], size: float
) -> None:
    """Certain and wrong, or certain and right: nothing overflows in float32."""
    logits = (size * torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0]])).requires_grad_()
    cost = make_class_loss(name, counts=COUNTS, **parameters)(logits, torch.tensor([0, 0]))
    (gradient,) = torch.autograd.grad(cost, logits)

    assert bool(torch.isfinite(cost))
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_bf16_logits_are_computed_in_float32(name: str, parameters: dict[str, Any]) -> None:
    """The loss of bf16 logits is that of the same numbers in float32, to the last bit."""
    logits, labels = examples(30)
    loss = make_class_loss(name, counts=COUNTS, **parameters)
    rounded = logits.to(torch.bfloat16)

    assert loss(rounded, labels).dtype == torch.float32
    assert torch.equal(loss(rounded, labels), loss(rounded.float(), labels))
    assert float(loss(logits.float(), labels)) == pytest.approx(
        float(loss(logits, labels)), rel=1e-5
    )


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_ignored_elements_change_nothing(name: str, parameters: dict[str, Any]) -> None:
    """The loss is that of the other elements alone, and ignored ones get no gradient."""
    logits, labels = examples(4, 5)
    labels[:, 3:] = IGNORED
    loss = make_class_loss(name, counts=COUNTS, **parameters)
    logits.requires_grad_()
    cost = loss(logits, labels)
    (gradient,) = torch.autograd.grad(cost, logits)

    assert cost.item() == pytest.approx(loss(logits[:, :3], labels[:, :3]).item(), rel=1e-12)
    assert bool((gradient[:, 3:] == 0).all())
    assert bool((gradient[:, :3] != 0).all())


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_batch_that_is_ignored_whole_costs_nothing(name: str, parameters: dict[str, Any]) -> None:
    """A batch without a label costs 0 and has a gradient of 0, so that training continues."""
    logits = examples(2, 3)[0].requires_grad_()
    cost = make_class_loss(name, counts=COUNTS, **parameters)(logits, torch.full((2, 3), IGNORED))
    (gradient,) = torch.autograd.grad(cost, logits)

    assert cost.item() == 0.0
    assert not bool(gradient.any())


def test_balanced_weights_make_classes_weigh_alike() -> None:
    """Over the training elements all classes together weigh the same, 1 on average."""
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    weights = balanced_weights(counts)

    assert (weights * counts).tolist() == pytest.approx([25.0] * 4)


def test_effective_weights_lie_between_none_and_balanced() -> None:
    """beta 0 weighs all classes alike; beta near 1 is `balanced`; the mean stays 1."""
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    between = effective_weights(counts, beta=0.9)

    assert effective_weights(counts, beta=0.0).tolist() == pytest.approx([1.0] * 4)
    assert effective_weights(counts, beta=1 - 1e-9).tolist() == pytest.approx(
        balanced_weights(counts).tolist(), rel=1e-4
    )
    assert float((between * counts).sum() / counts.sum()) == pytest.approx(1.0)
    assert between.tolist() == sorted(between.tolist())


@pytest.mark.parametrize("weights", ["balanced", "effective"])
def test_class_that_was_never_seen_has_a_finite_weight(weights: str) -> None:
    """A class of count 0 weighs what one of count 1 weighs, and does not shift the others."""
    loss = make_class_loss("weighted-ce", counts=np.array([6, 1, 0]), weights=weights)
    logits = torch.zeros(1, 3)

    seen, unseen = (float(loss(logits, torch.tensor([label]))) for label in (1, 2))
    assert seen == unseen > float(loss(logits, torch.tensor([0])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "bce"}, "unknown loss 'bce'; expected one of: ce, focal-ce, weighted-ce"),
        ({"name": "ce", "gamma": 1.0}, "loss 'ce' has no parameter 'gamma'; it takes: none"),
        ({"name": "focal-ce", "gamma": -1.0}, "parameter 'gamma' is -1.0"),
        ({"name": "focal-ce", "gamma": float("nan")}, "expected a finite number"),
        ({"name": "focal-ce", "gamma": "two"}, "expected a finite number"),
        ({"name": "weighted-ce", "beta": 1.0}, "parameter 'beta' is 1.0"),
        ({"name": "weighted-ce", "weights": "rare"}, "'none', 'balanced' or 'effective'"),
        ({"name": "ce", "counts": np.array([[1]])}, "expected (classes,)"),
        ({"name": "ce", "counts": np.array([1.0])}, "expected whole counts"),
        ({"name": "ce", "counts": np.array([3, -1])}, "counts[1] is -1"),
        ({"name": "ce", "counts": np.array([0, 0])}, "no training element"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    """What cannot be meant is named before any training."""
    with pytest.raises(ValueError, match=re.escape(message)):
        make_class_loss(**{"counts": COUNTS, **arguments})


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), "expected (rows, 4)"),
        (torch.zeros(4), torch.tensor(0), "expected (rows, 4)"),
        (torch.zeros(2, 4), torch.zeros(3, dtype=torch.int64), "labels have shape (3,)"),
        (torch.zeros(2, 4), torch.zeros(2), "labels have dtype torch.float32"),
        (torch.zeros(2, 4).long(), torch.zeros(2, dtype=torch.int64), "logits have dtype"),
        (torch.zeros(2, 4), torch.tensor([0, 4]), "a label is 4; expected 0 to 3, or -100"),
        (torch.zeros(2, 4), torch.tensor([0, -1]), "a label is -1"),
    ],
)
def test_wrong_batches_are_refused(logits: Tensor, labels: Tensor, message: str) -> None:
    """A batch that does not fit the classes is an error, not a number."""
    with pytest.raises(ValueError, match=re.escape(message)):
        make_class_loss("ce", counts=COUNTS)(logits, labels)


def test_every_loss_learns() -> None:
    """A few steps down the gradient of any loss find separable classes."""
    inputs: npt.NDArray[np.float32] = np.eye(4, dtype=np.float32).repeat(5, axis=0)
    labels = torch.arange(4).repeat_interleave(5)
    for name in CLASS_LOSSES:
        head = torch.zeros(4, 4, requires_grad=True)
        loss = make_class_loss(name, counts=np.full(4, 5))
        for _ in range(30):
            cost = loss(torch.from_numpy(inputs) @ head, labels)
            (gradient,) = torch.autograd.grad(cost, head)
            head = (head - gradient).detach().requires_grad_()

        assert torch.equal((torch.from_numpy(inputs) @ head).argmax(dim=1), labels)


def test_focal_ce_keeps_hard_elements() -> None:
    """What is certain and right costs far less than in cross-entropy, what is wrong as much."""
    logits = torch.tensor([[4.0, 0, 0, 0], [4.0, 0, 0, 0]])
    easy, hard = focal_cross_entropy(logits, torch.tensor([0, 1]), gamma=2.0).tolist()
    plain = cross_entropy(logits, torch.tensor([0, 1]), reduction="none").tolist()

    assert easy < 0.01 * plain[0]
    assert hard > 0.9 * plain[1]
