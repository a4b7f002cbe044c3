"""Batches in which held-out rows are scored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import STEADY
from trainer.data.batches import TOKENS_PER_PASS, padded_length
from trainer.evaluation.held_out import ROWS_PER_BATCH, validation_batches

MOST = 256


@STEADY
@given(lengths=st.lists(st.integers(2, MOST), max_size=200))
def test_every_row_is_scored_once_in_passes_of_bounded_size(lengths: list[int]) -> None:
    """No batch has more tokens, padding included, than a pass of training."""
    for device, limit in (*TOKENS_PER_PASS.items(), ("xpu", ROWS_PER_BATCH * MOST)):
        batches = list(validation_batches(lengths, device, max_tokens=MOST))

        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        for batch in batches:
            longest = padded_length(max(lengths[row] for row in batch), MOST)
            assert len(batch) * longest <= limit


def test_row_that_is_longer_than_a_pass_is_scored_alone() -> None:
    """It cannot be divided, and no other row joins it."""
    long = TOKENS_PER_PASS["cpu"] + 1

    assert list(validation_batches([long, 5, long], "cpu", max_tokens=long)) == [[1], [0], [2]]
