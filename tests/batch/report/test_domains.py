"""What the choice of the domains that a report describes promises."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.counting.domains import NO_DOMAIN, DistinctCount, DomainRanking, domain_name

Chunk = tuple[Sequence[str], Sequence[int]]


def ranked(chunks: Sequence[Chunk], most_candidates: int) -> DomainRanking:
    """A ranking of chunks, with exact rows in the end."""
    ranking = DomainRanking(most_candidates)
    for chunk in chunks:
        ranking.add(*chunk)
    if not ranking.is_exact:
        ranking.count_again(chunks)
    return ranking


def chunks_of(names: Sequence[str], rows: int) -> list[Chunk]:
    """Domains in chunks of so many rows, each with its rows in the chunk."""
    counted = [Counter(names[first : first + rows]) for first in range(0, len(names), rows)]
    return [(sorted(one), [one[name] for name in sorted(one)]) for one in counted]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_largest_domains_are_exact(names: list[str], rows: int, most: int) -> None:
    """Up to the bound the largest domains are those of a plain count, equals by name."""
    counts = Counter(names)
    expected = sorted(sorted(counts, key=lambda name: (-counts[name], name))[:most])
    ranking = ranked(chunks_of(names, rows), most_candidates=8)

    assert list(ranking.largest(most)) == expected
    assert (ranking.is_exact, ranking.domains()) == (True, len(counts))


def test_frequent_domains_are_never_lost() -> None:
    """Beyond the bound, a domain with more than 2 * rows / candidates rows stays in."""
    rare = [f"rare-{number}" for number in range(5000)]
    names = [name for number, one in enumerate(rare) for name in (one, f"big-{number % 10}")]
    ranking = ranked(chunks_of(names, 64), most_candidates=100)

    assert not ranking.is_exact
    assert list(ranking.largest(10)) == [f"big-{number}" for number in range(10)]


def test_rows_without_domain_take_no_place() -> None:
    """Rows without a domain come besides the largest, and survive the reduction."""
    names = [NO_DOMAIN, *(f"rare-{number}" for number in range(500)), "big", "big", "big"]
    ranking = ranked(chunks_of(names, 50), most_candidates=100)

    assert NO_DOMAIN in ranking.largest(1)
    assert len(ranking.largest(1)) == 2


@pytest.mark.parametrize("different", [0, 1, 999, 1000, 50_000])
def test_different_names_are_counted(different: int) -> None:
    """Exact below the bound, and near the truth beyond; names that come again change nothing."""
    count = DistinctCount(1000)
    names = [f"https://news{number}.example" for number in range(different)]
    for _ in range(2):
        for first in range(0, different, 700):
            count.add(names[first : first + 700])

    assert count.count() == pytest.approx(different, rel=0 if different < 1000 else 0.1)


@given(st.lists(st.text(max_size=300), unique=True, max_size=8))
@settings(max_examples=60, deadline=None)
def test_names_stay_apart(names: list[str]) -> None:
    """Different domains have different names, also where one is spelled like a cut name."""
    written = [name for name in names if name.strip()]
    written += [domain_name(name) for name in written if domain_name(name) not in written]

    assert len({domain_name(name) for name in written}) == len(written)
