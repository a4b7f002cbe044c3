"""Names of domains in statistics and reports, and which of very many are described one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from schemas.text.short_names import hashed_name, short_name

NO_DOMAIN = "(none)"
"""Where rows are counted whose domain is null or blank."""

MOST_DOMAINS = 500
"""Domains that a report describes one by one, the largest."""

MOST_CELLS = 20_000
"""Domains times labels that a report describes; with many labels there are fewer domains."""

MOST_CANDIDATES = 100_000
"""Names whose rows are counted one by one while the largest domains are looked for."""


def domain_name(domain: str | None) -> str:
    """Name under which the rows of a domain are counted: the domain itself, if it can be.

    Null and blank are NO_DOMAIN. A name that is too long, or that could be taken for one of ours,
    is cut and ends in a hash of the whole, so that two domains never share a name.
    """
    if domain is None or not domain.strip():
        return NO_DOMAIN
    return hashed_name(domain) if domain == NO_DOMAIN else short_name(domain)


def most_domains(cells: int) -> int:
    """Domains that a report describes one by one, with so many numbers each, of all tasks."""
    return max(1, min(MOST_DOMAINS, MOST_CELLS // max(cells, 1)))


class DomainRanking:
    """Rows by domain, with bounded memory; add the chunks in corpus order.

    Exact for up to `most_candidates` domains. Beyond, the smaller half is dropped, and the others
    are reduced by the rows of the largest one dropped (Misra and Gries, 1982), so that every domain
    with more than 2 * rows / most_candidates rows stays; `is_exact` is then false, and
    `count_again` gives exact rows for those that stayed. The same chunks in the same order give the
    same result.
    """

    def __init__(self, most_candidates: int = MOST_CANDIDATES) -> None:
        self.is_exact = True
        self._most = most_candidates
        self._rows: dict[str, int] = {}
        self._seen = DistinctCount(most_candidates)

    def add(self, names: Sequence[str], rows: Sequence[int]) -> None:
        """Count the rows of a chunk by domain."""
        for name, count in zip(names, rows, strict=True):
            self._rows[name] = self._rows.get(name, 0) + count
        self._seen.add(names)
        if len(self._rows) > self._most:
            self._reduce()

    def count_again(self, chunks: Iterable[tuple[Sequence[str], Sequence[int]]]) -> None:
        """Count the rows of the candidates, and of no other domain, exactly."""
        exact = dict.fromkeys(self._rows, 0)
        for names, rows in chunks:
            for name, count in zip(names, rows, strict=True):
                if name in exact:
                    exact[name] += count
        self._rows = exact

    def largest(self, most: int) -> tuple[str, ...]:
        """The domains with most rows, of equals the first by name; NO_DOMAIN besides if it occurs.

        Sorted by name.
        """
        named = [name for name in self._rows if name != NO_DOMAIN]
        chosen = sorted(named, key=lambda name: (-self._rows[name], name))[:most]
        return tuple(sorted([*chosen, *({NO_DOMAIN} & set(self._rows))]))

    def domains(self) -> int:
        """Number of domains, NO_DOMAIN among them; an estimate unless `is_exact`."""
        return len(self._rows) if self.is_exact else self._seen.count()

    def _reduce(self) -> None:
        self.is_exact = False
        nowhere = self._rows.pop(NO_DOMAIN, None)
        ordered = sorted(self._rows.values(), reverse=True)
        dropped = ordered[self._most // 2]
        self._rows = {
            name: count - dropped for name, count in self._rows.items() if count > dropped
        }
        if nowhere is not None:
            self._rows[NO_DOMAIN] = nowhere


class DistinctCount:
    """Number of different names, from the smallest of their hashes (Bar-Yossef et al., 2002).

    Exact up to `most` names; beyond, about one in a hundred off with 10,000 and less with more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._smallest: npt.NDArray[np.uint64] = np.empty(0, np.uint64)

    def add(self, names: Sequence[str]) -> None:
        """Take names into account; those seen before change nothing."""
        raw = b"".join(
            hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            for name in names
        )
        hashes = np.frombuffer(raw, "<u8")
        self._smallest = np.unique(np.concatenate([self._smallest, hashes]))[: self._most]

    def count(self) -> int:
        """How many different names there were."""
        if len(self._smallest) < self._most:
            return len(self._smallest)
        return round((self._most - 1) / (int(self._smallest[-1]) / 2**64))
