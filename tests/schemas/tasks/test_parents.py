"""What parents of labels promise."""

from __future__ import annotations

import pytest

from schemas.tasks.parents import check_parents, with_parents

PARENTS = {"oil": "energy", "gas": "energy", "wheat": "grain"}


def test_a_fine_label_implies_its_parent() -> None:
    """Parents are added once, after the labels of the row; other labels stay as they are."""
    assert with_parents(["oil", "war", "gas"], PARENTS) == ["oil", "war", "gas", "energy"]
    assert with_parents(["energy", "oil"], PARENTS) == ["energy", "oil"]
    assert with_parents([], PARENTS) == []


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ({"crude": "oil", "oil": "energy"}, "'crude' -> 'oil' -> 'energy'"),
        ({"oil": "oil"}, "'oil' -> 'oil' -> 'oil'"),
        ({"oil": "gas", "gas": "oil"}, "'oil' -> 'gas' -> 'oil'"),
        ({"oil": " "}, "blank label"),
        ({"": "oil"}, "blank label"),
    ],
)
def test_there_are_exactly_two_levels(parents: dict[str, str], message: str) -> None:
    """A third level and a cycle are refused with the chain, and so are blank labels."""
    with pytest.raises(ValueError, match=message):
        check_parents(parents, None)


@pytest.mark.parametrize("missing", ["oil", "grain"])
def test_both_levels_are_labels_of_the_task(missing: str) -> None:
    """A fine and a coarse label that are not listed are refused by name."""
    labels = {"oil", "gas", "wheat", "energy", "grain"}

    check_parents(PARENTS, labels)
    with pytest.raises(ValueError, match=f"parents has '{missing}', which labels does not list"):
        check_parents(PARENTS, labels - {missing})
