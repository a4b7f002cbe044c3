"""What every kind promises of its labels: there are some, or there cannot be any."""

from __future__ import annotations

import pytest

from schemas.kinds import KINDS, check_labels


@pytest.mark.parametrize("kind", KINDS)
def test_labels_fit_the_kind(kind: str) -> None:
    """No file may claim labels for a kind without, nor none for a kind with labels."""
    fitting, other = (("a",), ()) if KINDS[kind].HAS_LABELS else ((), ("a",))

    check_labels(kind, fitting)
    with pytest.raises(ValueError, match=r"needs at least one label|has no labels"):
        check_labels(kind, other)
