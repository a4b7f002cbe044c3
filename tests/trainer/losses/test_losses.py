"""What every loss promises at the edges; tests of the formulas are in test_loss_formulas."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from trainer.losses.sigmoid import LOSSES, make_loss

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Batch: TypeAlias = tuple[Floats, Ints, Ints, int]

POSITIVES = torch.tensor([900, 100, 10, 1])
ROWS = 1000
EVERY = pytest.mark.parametrize("name", sorted(LOSSES))


def some_batch() -> tuple[Tensor, Tensor]:
    """A (3, 4) batch with a row of one label, one of two, and one of none."""
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0], [3.0, -0.2, 0.1, -4.0], [1.0, 0.3, -2.0, 0.7]])
    labels = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    return logits, labels


@EVERY
def test_row_without_positives_has_finite_loss_and_gradient(name: str) -> None:
    """A batch of nothing but negatives gives numbers, not NaN."""
    logits = torch.zeros(2, 4, requires_grad=True)
    value = make_loss(name, positives=POSITIVES, rows=ROWS)(logits, torch.zeros(2, 4))
    value.backward()  # type: ignore[no-untyped-call]

    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@EVERY
def test_row_without_positives_leaves_its_neighbours_alone(name: str) -> None:
    """Adding a row without positives adds only that row's own loss."""
    logits, labels = some_batch()
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)
    apart = 2 * loss(logits[:2], labels[:2]) + loss(logits[2:], labels[2:])

    torch.testing.assert_close(3 * loss(logits, labels), apart)


@EVERY
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("count", [0, ROWS])
def test_label_that_never_varies_has_finite_loss_and_gradient(
    name: str, count: int, label: int
) -> None:
    """A label with no positives, or with only positives, in training can be either later."""
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = make_loss(name, positives=torch.tensor([count, 5]), rows=ROWS)
    value = loss(logits, torch.tensor([[label, 1]]))
    value.backward()  # type: ignore[no-untyped-call]

    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@EVERY
@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, math.nan])
def test_soft_labels_are_refused(name: str, value: float) -> None:
    """A label other than 0 and 1 is an error that says where and what."""
    logits, labels = some_batch()
    soft = labels.float()
    soft[1, 2] = value

    with pytest.raises(ValueError, match=rf"labels\[1, 2\] is {value}; expected 0 or 1"):
        make_loss(name, positives=POSITIVES, rows=ROWS)(logits, soft)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.bfloat16])
def test_labels_dtype_makes_no_difference(name: str, dtype: torch.dtype) -> None:
    """Labels of 0 and 1 give the same loss in every dtype."""
    logits, labels = some_batch()
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)

    assert loss(logits, labels.to(dtype)) == loss(logits, labels)


@EVERY
def test_arguments_are_left_unchanged(name: str) -> None:
    """Neither the logits, the labels nor the counts change."""
    logits, labels = some_batch()
    positives = POSITIVES.clone()
    make_loss(name, positives=positives, rows=ROWS)(logits, labels)

    assert torch.equal(logits, some_batch()[0])
    assert torch.equal(labels, some_batch()[1])
    assert torch.equal(positives, POSITIVES)


def test_loss_keeps_its_own_counts() -> None:
    """Changing the counts after the loss is built does not change the loss."""
    logits, labels = some_batch()
    positives = POSITIVES.clone()
    loss = make_loss("db", positives=positives, rows=ROWS)
    before = loss(logits, labels)
    positives.fill_(1)

    assert loss(logits, labels) == before


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    """Half-precision logits give the float32 loss of the same logits, as float32."""
    logits, labels = some_batch()
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)
    value = loss(logits.to(dtype), labels)

    assert value.dtype == torch.float32
    assert value == loss(logits.to(dtype).float(), labels)
    torch.testing.assert_close(value, loss(logits, labels), rtol=1e-2, atol=1e-3)


@EVERY
def test_autocast_makes_no_difference(name: str) -> None:
    """Under bf16 autocast the loss is the same to the last bit."""
    logits, labels = some_batch()
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, labels)

    assert value == loss(logits, labels)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [*((name, {}) for name in sorted(LOSSES)), ("db", {"gamma": 0.5}), ("asl", {"clip": 0.0})],
)
@pytest.mark.parametrize("label", [0, 1])
def test_huge_logits_stay_finite(name: str, parameters: dict[str, Any], label: int) -> None:
    """Logits of +-1e4 give finite losses and gradients, on the right side and on the wrong one."""
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    loss = make_loss(name, positives=POSITIVES, rows=ROWS, **parameters)
    value = loss(logits, torch.full((1, 4), label))
    value.backward()  # type: ignore[no-untyped-call]

    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_confident_mistake_costs_its_logit() -> None:
    """A positive at logit -1e4 has a BCE of 1e4."""
    loss = make_loss("bce", positives=POSITIVES[:1], rows=ROWS)

    assert loss(torch.tensor([[-1e4]]), torch.tensor([[1]])).item() == 1e4


@EVERY
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 4), torch.zeros(2, 3), "the same"),
        (torch.zeros(2, 4), torch.zeros(1, 4), "the same"),
        (torch.zeros(2, 3), torch.zeros(2, 3), r"expected \(rows, 4\)"),
        (torch.zeros(4), torch.zeros(4), r"expected \(rows, 4\)"),
        (torch.zeros(0, 4), torch.zeros(0, 4), "0 rows"),
        (torch.zeros(2, 4).long(), torch.zeros(2, 4), "int64"),
    ],
)
def test_unfit_batch_is_refused(name: str, logits: Tensor, labels: Tensor, message: str) -> None:
    """Shapes that do not fit, an empty batch and whole-number logits are errors."""
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)

    with pytest.raises(ValueError, match=message):
        loss(logits, labels)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make_loss("bec", positives=POSITIVES, rows=ROWS), "'bec'.* one of: asl, bce"),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, delta=1), "'delta'.* gamma, al"),
        (
            lambda: make_loss("bce", positives=POSITIVES, rows=ROWS, gamma=2),
            "'gamma'.* positive_power",
        ),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, mu=math.nan), "'mu'.* nan"),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, lambda_=0), "'lambda_' is 0"),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, gamma=-1), "'gamma' is -1"),
        (lambda: make_loss("cb", positives=POSITIVES, rows=ROWS, beta=1), "'beta' is 1"),
        (lambda: make_loss("asl", positives=POSITIVES, rows=ROWS, clip=1), "'clip' is 1"),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, alpha="auto"), "'alpha'.*'auto'"),
        (lambda: make_loss("db", positives=POSITIVES * 0, rows=ROWS, mu="auto"), "mu cannot be"),
        (lambda: make_loss("db", positives=POSITIVES, rows=899), r"positives\[0\] is 900"),
        (lambda: make_loss("db", positives=-POSITIVES, rows=ROWS), r"positives\[0\] is -900"),
        (lambda: make_loss("db", positives=POSITIVES / 2, rows=ROWS), "float32"),
        (lambda: make_loss("db", positives=POSITIVES[None], rows=ROWS), r"shape \(1, 4\)"),
        (lambda: make_loss("db", positives=POSITIVES * 0, rows=0), "rows is 0"),
    ],
)
def test_unfit_request_is_refused(build: Callable[[], object], message: str) -> None:
    """An unknown name or parameter, a bad value and bad counts are errors with the value."""
    with pytest.raises(ValueError, match=message):
        build()


def test_registry_is_frozen() -> None:
    """Losses cannot be added or replaced from outside."""
    with pytest.raises(TypeError):
        LOSSES["bce"] = LOSSES["db"]  # type: ignore[index]


def test_counts_may_be_a_read_only_array() -> None:
    """NumPy counts, even read-only ones, build the same loss as a tensor does."""
    logits, labels = some_batch()
    counts = POSITIVES.numpy().copy()
    counts.flags.writeable = False
    from_array = make_loss("db", positives=counts, rows=ROWS)
    from_tensor = make_loss("db", positives=POSITIVES, rows=ROWS)

    assert from_array(logits, labels) == from_tensor(logits, labels)
