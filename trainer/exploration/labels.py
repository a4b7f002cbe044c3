"""Labels of a corpus: how many rows each has, which come together, and where."""

from __future__ import annotations

from collections import Counter

import numpy as np

from trainer.evaluation.pictures import picture_text
from trainer.exploration.corpus import NO_VALUE, Corpus
from trainer.exploration.section import Picture, Section, Table, percent_of

MOST_BARS = 40
FEW_ROWS = 8
MOST_TOGETHER = 25
MOST_DOMAINS = 8
LEAST_EXPECTED = 5.0
"""Expected rows of a cell below which chi-square is not to be relied on (Cochran, 1954)."""


def label_counts(corpus: Corpus) -> Section:
    """Rows of each label, by domain."""
    counts, labelled = corpus.label_counts, sum(row is not None for row in corpus.labels)
    names = corpus.labels_by_frequency(len(counts))
    per_row = Counter(len(set(row)) for row in corpus.labels if row is not None)
    rare = sum(count <= FEW_ROWS for count in counts.values())
    several = sum(rows for labels, rows in per_row.items() if labels > 1)
    return Section(
        "Labels",
        f"{labelled:,} of {len(corpus):,} rows are labelled, with {len(counts):,} labels; "
        f"{per_row[0]:,} rows have none and {several:,} more than one. Labels with at most "
        f"{FEW_ROWS} rows, whose scores will be little more than chance: {rare:,}.",
        [
            Table(
                ["label", "rows", "share"],
                [[name, f"{counts[name]:,}", percent_of(counts[name], labelled)] for name in names],
            )
        ],
        [_bars(corpus, names[:MOST_BARS])],
    )


def _bars(corpus: Corpus, names: list[str]) -> Picture:
    from matplotlib import pyplot

    domains = corpus.domains_by_frequency(MOST_DOMAINS)
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.25 * len(names)), layout="constrained")
    left = np.zeros(len(names))
    shown = [picture_text(name) for name in names]
    for domain in domains or [NO_VALUE]:
        rows = corpus.rows_of(domain) if domains else range(len(corpus))
        of_domain = Counter(label for row in rows for label in set(corpus.labels[row] or ()))
        width = np.array([of_domain[name] for name in names])
        axes.barh(shown, width, left=left, label=picture_text(domain))
        left += width
    axes.invert_yaxis()
    axes.set_xlabel("rows")
    axes.margins(y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    if len(domains) > 1:
        axes.legend(frameon=False, title="domain")
    return Picture.of(figure, f"Rows of the {len(names)} most frequent labels")


def co_occurrence(corpus: Corpus) -> Section | None:
    """Which labels come with which; None where no row has two."""
    names = corpus.labels_by_frequency(MOST_TOGETHER)
    column = {name: number for number, name in enumerate(names)}
    present = np.zeros((len(corpus), len(names)))
    for row, labels in enumerate(corpus.labels):
        for label in labels or ():
            if label in column:
                present[row, column[label]] = 1
    together = present.T @ present  # (labels, labels)
    if not np.triu(together, 1).any():
        return None
    shares = together / np.maximum(together.diagonal()[:, None], 1)
    pairs = sorted(
        (
            (int(together[one, other]), names[one], names[other])
            for one in range(len(names))
            for other in range(one)
        ),
        reverse=True,
    )[:10]
    return Section(
        "Labels that come together",
        "Share of the rows of a label (line) that also have another one (column), for the "
        f"{len(names)} most frequent labels.",
        [Table(["labels", "rows with both"], [[f"{a} · {b}", f"{n:,}"] for n, a, b in pairs if n])],
        [_heat(shares, names, "Share of a label's rows that also have another label")],
    )


def _heat(shares: np.ndarray, names: list[str], caption: str) -> Picture:
    from matplotlib import pyplot

    shown, size = [picture_text(name) for name in names], 2.5 + 0.28 * len(names)
    figure, axes = pyplot.subplots(figsize=(size + 2, size), layout="constrained")
    image = axes.imshow(np.where(np.eye(len(names)) > 0, np.nan, shares), cmap="Blues", vmin=0)
    axes.set_xticks(range(len(names)), shown, rotation=90, fontsize="small")
    axes.set_yticks(range(len(names)), shown, fontsize="small")
    figure.colorbar(image, shrink=0.6)
    return Picture.of(figure, caption)


def domain_association(corpus: Corpus) -> Section | None:
    """How strongly each label goes with domains; None without at least two domains and a label.

    Source: Pearson's chi-square of independence, and Cramer's V (1946) as its size.
    """
    from scipy.stats import chi2_contingency

    domains = corpus.domains_by_frequency(MOST_DOMAINS)
    names = corpus.labels_by_frequency(MOST_BARS)
    if len(domains) < 2 or not names:
        return None
    rows = {domain: corpus.rows_of(domain) for domain in domains}
    lines = []
    for name in names:
        has = [sum(name in (corpus.labels[row] or ()) for row in rows[one]) for one in domains]
        table = np.array([has, [len(rows[one]) - n for one, n in zip(domains, has, strict=True)]])
        if not table.sum(axis=1).all():
            continue
        test = chi2_contingency(table, correction=False)
        size = (test.statistic / table.sum()) ** 0.5
        few = "" if test.expected_freq.min() >= LEAST_EXPECTED else " (few rows)"
        shares = [percent_of(n, len(rows[one])) for one, n in zip(domains, has, strict=True)]
        lines.append(
            (
                size,
                [name, *shares, f"{test.statistic:.1f}", f"{test.pvalue:.1g}{few}", f"{size:.2f}"],
            )
        )
    lines.sort(key=lambda line: -line[0])
    return Section(
        "Labels and domains",
        "Share of each domain's rows that have a label, and whether that depends on the domain: "
        "chi-square, its p-value, and Cramer's V from 0 (independent) to 1 (the label says the "
        "domain). A model trained on one domain cannot learn labels that only another one has.",
        [Table(["label", *domains, "chi-square", "p", "V"], [cells for _, cells in lines])],
    )
