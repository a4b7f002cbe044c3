"""What the report on a task that gives vectors promises: similarities, and a map of the domains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from batch.kinds import BATCH_KINDS
from batch.kinds.embedding import VectorTaskReport
from batch.kinds.map_points import HEIGHT, WIDTH, map_points
from batch.report.build import TaskFacts, build_report
from batch.report.page import render_html
from batch.report.stats import ChunkStats, RunStats, count_rows
from batch.report.totals import merge_stats
from schemas.arrays import Float32Array
from schemas.decision.vectors import unit_vectors
from schemas.kinds.embedding import EmbeddingKind, Vectors

KIND = EmbeddingKind.NAME
DIMENSION = 12
DOMAINS = ("a.example", "b.example", "c.example", "d.example")


def drawn(rows: int, *, seed: int = 0) -> tuple[Float32Array, list[str]]:
    """Vectors that are alike within a domain, and the domain of each."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(len(DOMAINS), size=rows)
    centres = np.random.default_rng(9).normal(size=(len(DOMAINS), DIMENSION))
    vectors = centres[numbers] + 0.4 * rng.normal(size=(rows, DIMENSION))
    return vectors.astype(np.float32), [DOMAINS[number] for number in numbers]


def chunk(
    vectors: Float32Array, domains: Sequence[str | None], statuses: Sequence[str] | None = None
) -> ChunkStats:
    """Statistics of some rows."""
    return count_rows(
        kind=KIND,
        width=DIMENSION,
        domains=domains,
        statuses=statuses or ["ok"] * len(vectors),
        tokens=np.full(len(vectors), 12),
        decided=Vectors(vectors),
    )


def report_of(*chunks: ChunkStats) -> VectorTaskReport:
    """The report on some chunks."""
    merged = merge_stats(lambda: (RunStats({"vectors": one}) for one in chunks))
    facts = TaskFacts(
        task="vectors",
        kind=KIND,
        labels=(),
        decision={"dimension": DIMENSION},
        gold_column=None,
    )
    report = build_report(merged.tasks["vectors"], facts)
    assert isinstance(report, VectorTaskReport)
    return report


def test_similarity_is_the_mean_cosine_of_two_texts() -> None:
    """Of a domain, and of the whole corpus; each pair once, none with itself."""
    vectors, domains = drawn(90)
    report = report_of(chunk(vectors, domains))
    unit = unit_vectors(vectors)
    for name in (*DOMAINS, None):
        rows = [row for row, domain in enumerate(domains) if name in (None, domain)]
        cosines = (unit[rows] @ unit[rows].T)[np.triu_indices(len(rows), k=1)]
        section = report.overall if name is None else report.domains[name]

        assert section.similarity == pytest.approx(cosines.mean(), abs=1e-3)


def test_nearest_domains_are_those_with_the_most_similar_means() -> None:
    """The nearest first, and with its cosine."""
    vectors, domains = drawn(120)
    report = report_of(chunk(vectors, domains))
    unit = unit_vectors(vectors)
    means = {
        name: unit_vectors(
            unit[[row for row, one in enumerate(domains) if one == name]].mean(axis=0)[None]
        )[0]
        for name in DOMAINS
    }
    for name in DOMAINS:
        others = sorted(
            (one for one in DOMAINS if one != name), key=lambda one: -means[name] @ means[one]
        )
        near = report.domains[name].nearest

        assert [one.domain for one in near] == others
        assert near[0].cosine == pytest.approx(means[name] @ means[others[0]], abs=1e-3)


def test_chunks_add_up_in_any_order() -> None:
    """To the last bit, and also through a marker."""
    chunks = [chunk(*drawn(30, seed=seed)) for seed in range(4)]
    packed = [
        RunStats.from_json(RunStats({"vectors": one}).to_json()).tasks["vectors"] for one in chunks
    ]
    whole = report_of(*chunks).model_dump_json()

    assert report_of(*reversed(chunks)).model_dump_json() == whole
    assert report_of(*packed).model_dump_json() == whole


def test_a_marker_that_does_not_fit_is_refused() -> None:
    """A sum of another length is no statistic of these domains."""
    kind = BATCH_KINDS[KIND]
    packed = kind.pack(chunk(*drawn(30)).tally)

    with pytest.raises(ValueError, match="cannot reshape"):
        kind.unpack(packed, domains=3, width=DIMENSION)
    with pytest.raises(ValueError, match="sums"):
        kind.unpack({}, domains=3, width=DIMENSION)


def test_rows_without_an_answer_do_not_count() -> None:
    """An empty and a quarantined row change no similarity; a domain of such rows has none."""
    vectors, domains = drawn(40)
    extra = np.concatenate([vectors, 100 * np.ones((2, DIMENSION), np.float32)])
    statuses = [*["ok"] * 40, "empty", "quarantined"]
    report = report_of(chunk(extra, [*domains, "a.example", "only.example"], statuses))
    plain = report_of(chunk(vectors, domains))

    assert report.domains["a.example"].similarity == plain.domains["a.example"].similarity
    assert report.domains["only.example"].similarity is None
    assert report.domains["only.example"].place is None
    assert "only.example" in render_html(report)


def test_the_page_has_a_map_from_three_domains_on() -> None:
    """Two points would say nothing; the links follow."""
    vectors, domains = drawn(60)
    page = render_html(report_of(chunk(vectors, domains)))
    two = ["a.example" if domain < "c" else "b.example" for domain in domains]
    small = render_html(report_of(chunk(vectors, two)))

    assert page.count("<circle") == len(DOMAINS)
    assert 'href="#map"' in page
    assert "style=" not in page
    assert "<circle" not in small
    assert 'href="#map"' not in small


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_have_a_report(rows: int) -> None:
    """Without a pair there is no similarity."""
    report = report_of(chunk(drawn(rows)[0], ["a.example"] * rows))

    assert (report.overall.similarity is None) == (rows < 2)
    assert "vectors of 12 numbers" in render_html(report)


def test_names_on_the_map_do_not_cover_each_other() -> None:
    """Points are inside the picture; of names at one place the first is shown."""
    names = [f"domain-{number}.example" for number in range(50)]
    places = [(0.01 * (number % 7), 0.02 * (number % 5)) for number in range(50)]
    points = map_points(names, places, list(range(50, 0, -1)))
    shown = [point for point in points if point.name_x is not None]

    assert all(0 <= point.x <= WIDTH and 0 <= point.y <= HEIGHT for point in points)
    assert points[0] in shown
    assert 1 < len(shown) < 50
