"""The whole look at a corpus: its sections one after the other, and the page."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined

from schemas.config.models import EncoderConfig
from schemas.io.files import write_atomic
from schemas.printable import printable
from schemas.text.model_text import Article, TextSpec, model_text
from trainer.exploration.corpus import Columns, Corpus, read_corpus
from trainer.exploration.labels import co_occurrence, domain_association, label_counts
from trainer.exploration.languages import languages
from trainer.exploration.neighbourhoods import duplicates, text_map
from trainer.exploration.section import Section, Table, percent_of
from trainer.exploration.words import Words, domain_distances, lengths, topics
from trainer.model.encoders import load_encoder
from trainer.ranking.vectors import pooled_vectors

TEMPLATE = Path(__file__).with_name("page.html.j2")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExplorationSettings:
    """How a corpus is looked at.

    encoder: whose tokens are counted, and whose vectors are drawn. sample: texts that are encoded
    at most, for the map and for near duplicates. max_tokens: read of these. topics: number of them.
    """

    columns: Columns = field(default_factory=Columns)
    encoder: str = EncoderConfig().source
    sample: int = 2000
    max_tokens: int = 128
    topics: int = 10
    seed: int = 0


def explore(path: Path, output: Path, settings: ExplorationSettings) -> Path:
    """Look at a corpus, a Parquet file or a folder of them, and write `exploration.html`.

    Returns the page, which needs no network. Raises DataError or EncoderError.
    """
    import matplotlib

    matplotlib.use("agg")
    corpus = read_corpus(path, settings.columns)
    sections = [section for section in _sections(corpus, settings) if section is not None]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        source=printable(corpus.source),
        rows=len(corpus),
        left_out=corpus.left_out,
        sections=sections,
    )
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / "exploration.html", page)
    return output / "exploration.html"


def _sections(corpus: Corpus, settings: ExplorationSettings) -> Sequence[Section | None]:
    log.info("%d rows: counting words and labels", len(corpus))
    words = Words(corpus)
    tokenizer = load_encoder(settings.encoder, markers=False).tokenizer
    labelled = (
        [label_counts(corpus), co_occurrence(corpus), domain_association(corpus)]
        if corpus.label_counts
        else []
    )
    parts = [
        _overview(corpus),
        lengths(corpus, tokenizer),
        *labelled,
        domain_distances(corpus, words),
        topics(corpus, words, settings.topics, seed=settings.seed),
        languages(corpus),
    ]
    rows = _sample(corpus, settings)
    log.info("encoding %d texts for the map", len(rows))
    texts = [
        model_text(Article(corpus.texts[row]), TextSpec(), max_tokens=settings.max_tokens)
        for row in rows
    ]
    vectors = pooled_vectors(settings.encoder, texts, max_tokens=settings.max_tokens).vectors
    mean = vectors["mean"]
    drawn = [text_map(corpus, rows, mean, settings.seed)] if len(rows) > 3 else []
    return [*parts, *drawn, duplicates(corpus, rows, mean)]


def _sample(corpus: Corpus, settings: ExplorationSettings) -> list[int]:
    """Rows to encode, drawn at random where there are more."""
    order = np.random.default_rng(settings.seed).permutation(len(corpus))[: settings.sample]
    return sorted(order.tolist())


def _overview(corpus: Corpus) -> Section:
    facets = {"part": corpus.parts, "domain": corpus.domains, "language": corpus.languages}
    tables = [
        Table(
            [what, "rows", "share"],
            [
                [name, f"{count:,}", percent_of(count, len(corpus))]
                for name, count in Counter(values).most_common(30)
            ],
        )
        for what, values in facets.items()
        if values is not None
    ]
    missing = [what for what, values in facets.items() if values is None]
    text = f"There is no column for: {', '.join(missing)}." if missing else "Rows by column."
    return Section("Rows", text, tables)
