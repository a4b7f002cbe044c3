"""Write the sample corpus: two Parquet files of invented, labelled news articles.

The sentences live in ``phrases/*.toml``, the label counts in ``phrases/plan.toml``. The same seed
and the same library versions give the same bytes.
"""

import random
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import click
import polars as pl
from gold import Names, Span, stance_of
from wording import PHRASES, Bank, Brief, Writer, load_bank

HERE = Path(__file__).resolve().parent
LANGUAGES = ("en", "pt", "ru", "bg")
OTHER = "Other"
MAX_NARRATIVES = 4
FIRST_DAY = date(2023, 1, 2)
DAYS = 900

SCHEMA: dict[str, pl.DataType] = {
    "article_id": pl.String(),
    "title": pl.String(),
    "text": pl.String(),
    "domain": pl.String(),
    "language": pl.String(),
    "published_at": pl.Date(),
    "narratives": pl.List(pl.String()),
    "entity": pl.String(),
    "start": pl.Int64(),
    "end": pl.Int64(),
    "roles": pl.List(pl.String()),
    "stance": pl.String(),
    "names": pl.List(pl.Struct({"start": pl.Int64(), "end": pl.Int64(), "label": pl.String()})),
}


@dataclass(frozen=True)
class Article:
    """One row, its fields as the columns of ``SCHEMA``; offsets count characters, end exclusive."""

    article_id: str
    title: str
    text: str
    domain: str
    language: str
    published_at: date
    narratives: list[str]
    entity: str
    start: int
    end: int
    roles: list[str]
    stance: str
    names: list[Span]


@dataclass(frozen=True)
class Plan:
    """Label counts for the training file and the shares that shape both files."""

    narratives: dict[str, dict[str, int]]
    affinity: dict[str, list[str]]
    stances: dict[str, list[str]]
    roles: dict[str, int]
    languages: dict[str, float]
    neutral_share: float
    dropped_label_share: float
    dropped_label_min_rows: int
    second_role_share: float


def load_plan() -> Plan:
    """Read ``phrases/plan.toml``."""
    return Plan(**tomllib.loads((PHRASES / "plan.toml").read_text("utf-8")))


def weighted_sample(rng: random.Random, weights: Sequence[float], sample_rows: int) -> list[int]:
    """Draw distinct indices, the heavier the likelier (Efraimidis and Spirakis, 2006)."""
    keys = [rng.random() ** (1 / weight) if weight > 0 else -1.0 for weight in weights]
    ranked = sorted(range(len(keys)), key=lambda index: -keys[index])
    return [index for index in ranked[:sample_rows] if keys[index] >= 0]


def draw_narratives(
    rng: random.Random, plan: Plan, domain: str, domain_rows: int, scale: float
) -> list[tuple[str, ...]]:
    """Hand each label to its number of rows; labels with an affinity seek the same rows."""
    counts = plan.narratives[domain]
    chosen: list[list[str]] = [[] for _ in range(domain_rows)]
    neutral_rows = round(plan.neutral_share * domain_rows)
    for label in sorted(counts, key=lambda name: (name != OTHER, -counts[name])):
        friends = set(plan.affinity.get(label, ()))
        weights = []
        for row, present in enumerate(chosen):
            full = row < neutral_rows or OTHER in present or len(present) == MAX_NARRATIVES
            weight = 0.0 if full else (5.0, 2.0, 1.0, 0.5)[len(present)]
            weights.append(weight * (4.0 if friends & set(present) else 1.0))
        for row in weighted_sample(rng, weights, round(counts[label] * scale)):
            chosen[row].append(label)
    order = list(counts)
    return [tuple(sorted(present, key=order.index)) for present in chosen]


def draw_roles(rng: random.Random, plan: Plan, split_rows: int) -> list[tuple[str, ...]]:
    """Give each row one role from the plan's counts, and some rows a second one."""
    order = list(plan.roles)
    scale = split_rows / sum(plan.roles.values())
    pool = [role for role, rows in plan.roles.items() for _ in range(round(rows * scale))]
    pool = (pool + order[:1] * split_rows)[:split_rows]  # rounding may leave a row or two
    rng.shuffle(pool)
    drawn = []
    for first in pool:
        roles = {first}
        if rng.random() < plan.second_role_share:
            roles.add(rng.choices(order, weights=list(plan.roles.values()))[0])
        drawn.append(tuple(sorted(roles, key=order.index)))
    return drawn


def draw_briefs(
    rng: random.Random, plan: Plan, banks: dict[str, Bank], split_rows: int, scale: float
) -> list[Brief]:
    """Decide domain, labels, roles and language of every row of a file, in shuffled order."""
    domains = list(plan.narratives)
    domain_rows = split_rows // len(domains)
    roles = iter(draw_roles(rng, plan, split_rows))
    briefs = [
        Brief(domain, narratives, next(roles))
        for domain in domains
        for narratives in draw_narratives(rng, plan, domain, domain_rows, scale)
    ]
    rng.shuffle(briefs)
    for language, share in plan.languages.items():
        bank = banks[language]
        able = [
            row
            for row, brief in enumerate(briefs)
            if brief.language == "en"
            and set(brief.narratives) <= set(bank.narratives)
            and set(brief.roles) <= set(bank.roles)
        ]
        for row in rng.sample(able, round(share * split_rows)):
            briefs[row] = replace(briefs[row], language=language)
    return briefs


def write_article(
    rng: random.Random, bank: Bank, names: Names, brief: Brief, held_out: bool
) -> Article:
    """Turn a brief into a row without id and stance; any mention may be the marked one."""
    writer = Writer(rng, bank, brief, held_out)
    title, text = writer.title(), writer.body()
    entity = writer.entity.removeprefix("the ")
    start = rng.choice([match.start() for match in re.finditer(re.escape(entity), text)])
    return Article(
        article_id="",
        title=title,
        text=text,
        domain=brief.domain,
        language=brief.language,
        published_at=FIRST_DAY + timedelta(days=rng.randrange(DAYS)),
        narratives=list(brief.narratives),
        entity=entity,
        start=start,
        end=start + len(entity),
        roles=list(brief.roles),
        stance="",
        names=names.find(text),
    )


def drop_labels(rng: random.Random, plan: Plan, articles: list[Article]) -> None:
    """Add label noise: take some gold narratives away, though the text asserts them."""
    counts = Counter[str]()
    for domain_counts in plan.narratives.values():
        counts.update(domain_counts)
    frequent = [
        (article, label)
        for article in articles
        for label in article.narratives
        if counts[label] >= plan.dropped_label_min_rows
    ]
    for article, label in rng.sample(frequent, round(plan.dropped_label_share * len(frequent))):
        article.narratives.remove(label)


def check_offsets(article: Article, names: Names) -> None:
    """Check that the marked entity is where its offsets say, and so is every name.

    Raises ValueError.
    """
    marked = article.text[article.start : article.end]
    if marked != article.entity:
        raise ValueError(f"{article.article_id}: offsets of {article.entity!r} give {marked!r}")
    for span in article.names:
        name = article.text[span.start : span.end]
        if names.labels.get(name) != span.label:
            raise ValueError(f"{article.article_id}: {name!r} is not a known {span.label}")
    if (article.start, article.end) not in {(span.start, span.end) for span in article.names}:
        raise ValueError(f"{article.article_id}: {article.entity!r} is not one of the names")


def write_parquet(articles: list[Article], path: Path) -> None:
    """Check that texts differ, and write the rows as one zstd Parquet file."""
    if len({article.text for article in articles}) != len(articles):
        raise ValueError(f"{path.name}: two rows have the same text; try another seed")
    table = pl.DataFrame([asdict(article) for article in articles], SCHEMA)
    table.write_parquet(path, compression="zstd", compression_level=9)


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), default=HERE, help="Folder to fill.")
@click.option("--seed", type=int, default=20240, show_default=True, help="Random seed.")
def main(output: Path, seed: int) -> None:
    """Generate both files."""
    plan, banks = load_plan(), {language: load_bank(language) for language in LANGUAGES}
    names = {language: Names.of_bank(bank) for language, bank in banks.items()}
    output.mkdir(parents=True, exist_ok=True)
    ids = Counter[str]()
    for name, split_rows, held_out in (("train", 600, False), ("articles", 240, True)):
        rng = random.Random(f"{seed}/{name}")
        articles = []
        for brief in draw_briefs(rng, plan, banks, split_rows, split_rows / 600):
            ids[brief.domain] += 1
            article_id = f"{brief.domain.lower()}-{ids[brief.domain]:04d}"
            bank, known = banks[brief.language], names[brief.language]
            article = write_article(rng, bank, known, brief, held_out)
            # Not from the gold narratives, some of which are dropped below.
            stance = stance_of(brief.narratives, plan.stances)
            article = replace(article, article_id=article_id, stance=stance)
            check_offsets(article, known)
            articles.append(article)
        drop_labels(rng, plan, articles)
        write_parquet(articles, output / f"{name}.parquet")
        click.echo(f"{output / name}.parquet: {split_rows} rows")


if __name__ == "__main__":
    main()
