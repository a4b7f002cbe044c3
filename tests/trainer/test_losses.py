"""What the losses promise, against a plain NumPy reading of the published formulas."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from trainer.losses import LOSSES, focal, logit_shift, make_loss, rebalanced_weights

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Batch: TypeAlias = tuple[Floats, Ints, Ints, int]

POSITIVES = torch.tensor([900, 100, 10, 1])
ROWS = 1000
BOTH = pytest.mark.parametrize("name", ["bce", "db"])


def bce_by_the_book(logits: Floats, labels: Ints) -> float:
    """Mean BCE, one element at a time."""
    losses = []
    for z, y in zip(logits.ravel(), labels.ravel(), strict=True):
        p = 1 / (1 + math.exp(-z))
        losses.append(-math.log(p) if y else -math.log(1 - p))
    return sum(losses) / len(losses)


def db_by_the_book(
    logits: Floats,
    labels: Ints,
    counts: Ints,
    rows: int,
    *,
    gamma: float = 2,
    alpha: float = 0.1,
    beta: float = 10,
    mu: float = 0.9,
    kappa: float = 0.05,
    lambda_: float = 2,
) -> float:
    """Mean DB, one element at a time, for rows that all have a positive label."""
    losses = []
    for k in range(logits.shape[0]):
        row_sum = sum(1 / counts[j] for j in range(len(counts)) if labels[k, j] == 1)
        for i in range(len(counts)):
            r = (1 / counts[i]) / row_sum
            r_hat = alpha + 1 / (1 + np.exp(-beta * (r - mu)))
            b = -np.log(1 / (counts[i] / rows) - 1)
            v = -kappa * b
            if labels[k, i] == 1:
                q = 1 / (1 + np.exp(-(logits[k, i] - v)))
                losses.append(-r_hat * (1 - q) ** gamma * np.log(q))
            else:
                q = 1 / (1 + np.exp(-lambda_ * (logits[k, i] - v)))
                losses.append(-r_hat / lambda_ * q**gamma * np.log(1 - q))
    return float(np.mean(losses))


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


def some_batch() -> tuple[Tensor, Tensor]:
    """A (3, 4) batch with a row of one label, one of two, and one of none."""
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0], [3.0, -0.2, 0.1, -4.0], [1.0, 0.3, -2.0, 0.7]])
    labels = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    return logits, labels


@given(labelled_batches())
@settings(max_examples=50, deadline=None)
def test_bce_equals_its_formula(batch: Batch) -> None:
    """BCE is the mean of -log p over positives and -log(1 - p) over negatives."""
    logits, labels, counts, rows = batch
    loss = make_loss("bce", positives=counts, rows=rows)
    value = loss(torch.from_numpy(logits), torch.from_numpy(labels)).item()

    assert value == pytest.approx(bce_by_the_book(logits, labels), rel=1e-9)


@given(labelled_batches())
@settings(max_examples=50, deadline=None)
def test_db_equals_its_formula(batch: Batch) -> None:
    """DB with its default parameters is the published formula."""
    logits, labels, counts, rows = batch
    loss = make_loss("db", positives=counts, rows=rows)
    value = loss(torch.from_numpy(logits), torch.from_numpy(labels)).item()

    assert value == pytest.approx(db_by_the_book(logits, labels, counts, rows), rel=1e-8)


@given(
    labelled_batches(),
    st.fixed_dictionaries(
        {
            "gamma": st.floats(0, 4),
            "alpha": st.floats(0, 2),
            "beta": st.floats(0, 15),
            "mu": st.floats(-1, 1),
            "kappa": st.floats(0, 1),
            "lambda_": st.floats(0.5, 3),
        }
    ),
)
@settings(max_examples=50, deadline=None)
def test_every_db_parameter_is_the_formulas(batch: Batch, parameters: dict[str, float]) -> None:
    """Each DB parameter does what it does in the formula."""
    logits, labels, counts, rows = batch
    logits = logits / 4  # keeps the plain formula's own rounding error small
    loss = make_loss("db", positives=counts, rows=rows, **parameters)
    value = loss(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    expected = db_by_the_book(logits, labels, counts, rows, **parameters)

    assert value == pytest.approx(expected, rel=1e-6, abs=1e-12)


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
    labels = torch.zeros(1, 4, dtype=torch.bool)
    weights = rebalanced_weights(labels, POSITIVES.double(), alpha=0.1, beta=beta, mu=mu)

    assert weights.tolist() == [[0.6, 0.6, 0.6, 0.6]]


@BOTH
def test_row_without_positives_has_finite_loss_and_gradient(name: str) -> None:
    """A batch of nothing but negatives gives numbers, not NaN."""
    logits = torch.zeros(2, 4, requires_grad=True)
    value = make_loss(name, positives=POSITIVES, rows=ROWS)(logits, torch.zeros(2, 4))
    value.backward()  # type: ignore[no-untyped-call]

    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@BOTH
def test_row_without_positives_leaves_its_neighbours_alone(name: str) -> None:
    """Adding a row without positives adds only that row's own loss."""
    logits, labels = some_batch()
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)
    apart = 2 * loss(logits[:2], labels[:2]) + loss(logits[2:], labels[2:])

    torch.testing.assert_close(3 * loss(logits, labels), apart)


@pytest.mark.parametrize("count", [0, ROWS])
def test_label_that_never_varies_has_a_finite_shift(count: int) -> None:
    """A label with no positives, or with only positives, is shifted as if half a row differed."""
    shift = logit_shift(torch.tensor([float(count)], dtype=torch.float64), ROWS, kappa=0.05)
    expected = math.copysign(0.05 * math.log(2 * ROWS - 1), ROWS / 2 - count)

    assert shift.item() == pytest.approx(expected)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("count", [0, ROWS])
def test_label_that_never_varies_has_finite_loss_and_gradient(count: int, label: int) -> None:
    """A label with no positives, or with only positives, in training can be either later."""
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = make_loss("db", positives=torch.tensor([count, 5]), rows=ROWS)
    value = loss(logits, torch.tensor([[label, 1]]))
    value.backward()  # type: ignore[no-untyped-call]

    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@BOTH
@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, math.nan])
def test_soft_labels_are_refused(name: str, value: float) -> None:
    """A label other than 0 and 1 is an error that says where and what."""
    logits, labels = some_batch()
    soft = labels.float()
    soft[1, 2] = value

    with pytest.raises(ValueError, match=rf"labels\[1, 2\] is {value}; expected 0 or 1"):
        make_loss(name, positives=POSITIVES, rows=ROWS)(logits, soft)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.bfloat16])
def test_labels_dtype_makes_no_difference(name: str, dtype: torch.dtype) -> None:
    """Labels of 0 and 1 give the same loss in every dtype."""
    logits, labels = some_batch()
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)

    assert loss(logits, labels.to(dtype)) == loss(logits, labels)


@BOTH
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


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    """Half-precision logits give the float32 loss of the same logits, as float32."""
    logits, labels = some_batch()
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)
    value = loss(logits.to(dtype), labels)

    assert value.dtype == torch.float32
    assert value == loss(logits.to(dtype).float(), labels)
    torch.testing.assert_close(value, loss(logits, labels), rtol=1e-2, atol=1e-3)


@BOTH
def test_autocast_makes_no_difference(name: str) -> None:
    """Under bf16 autocast the loss is the same to the last bit."""
    logits, labels = some_batch()
    loss = make_loss(name, positives=POSITIVES, rows=ROWS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, labels)

    assert value == loss(logits, labels)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_db_gradient_is_the_numerical_gradient(gamma: float) -> None:
    """DB's gradient is that of finite differences in float64, rows without positives included."""
    logits, labels = some_batch()
    loss = make_loss("db", positives=POSITIVES, rows=ROWS, gamma=gamma)

    assert torch.autograd.gradcheck(lambda z: loss(z, labels), logits.double().requires_grad_())


def test_bce_gradient_is_the_numerical_gradient() -> None:
    """BCE's gradient is that of finite differences in float64."""
    logits, labels = some_batch()
    loss = make_loss("bce", positives=POSITIVES, rows=ROWS)

    assert torch.autograd.gradcheck(lambda z: loss(z, labels), logits.double().requires_grad_())


@pytest.mark.parametrize(
    ("name", "parameters"), [("bce", {}), ("db", {}), ("db", {"gamma": 0.5}), ("db", {"gamma": 0})]
)
@pytest.mark.parametrize("label", [0, 1])
def test_huge_logits_stay_finite(name: str, parameters: dict[str, float], label: int) -> None:
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


@BOTH
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
        (lambda: make_loss("bec", positives=POSITIVES, rows=ROWS), "'bec'.* one of: bce, db"),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, delta=1), "'delta'.* gamma, al"),
        (lambda: make_loss("bce", positives=POSITIVES, rows=ROWS, gamma=2), "'gamma'.* none"),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, mu=math.nan), "'mu'.* nan"),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, lambda_=0), "'lambda_' is 0"),
        (lambda: make_loss("db", positives=POSITIVES, rows=ROWS, gamma=-1), "'gamma' is -1"),
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


def test_text_parameter_is_refused() -> None:
    """mu="auto" is not a number, and counts alone cannot give one."""
    with pytest.raises(ValueError, match=r"'mu'.*'auto'"):
        make_loss("db", positives=POSITIVES, rows=ROWS, mu="auto")  # type: ignore[arg-type]


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
