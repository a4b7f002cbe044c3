"""SemEval-2025 Task 10 in the layouts that it comes in, as Parquet for training and scoring.

    python -m bench.systems.semeval FOLDER --output DIR

FOLDER has the official layout, `raw-documents/` and `labels/` with `subtask-1-annotations.txt` and
`subtask-2-annotations.txt`, in one folder or one for each language; or the tables of the founding
document, `*articles*.csv`, `*S1-labels*.csv` and `*S2-labels*.csv`. Writes `narratives.parquet` and
`roles.parquet` with the columns that configs/semeval-en.toml names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import polars as pl

OTHER = "Other"
DOMAINS = {"CC": "CC", "UA": "UA", "URW": "UA"}
"""Domain by what names of files and labels begin with."""

NARRATIVE_COLUMNS: Mapping[str, Any] = MappingProxyType(
    {
        "id": pl.String,
        "text": pl.String,
        "labels": pl.List(pl.String),
        "labels_fine": pl.List(pl.String),
        "domain": pl.String,
        "language": pl.String,
    }
)
ROLE_COLUMNS: Mapping[str, Any] = MappingProxyType(
    {
        "id": pl.String,
        "article": pl.String,
        "text": pl.String,
        "entity": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "main_role": pl.String,
        "labels": pl.List(pl.String),
        "domain": pl.String,
        "language": pl.String,
    }
)


def read_official(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Narratives of documents, and roles of entities, of the official layout.

    Ends of entities are inclusive there, and may count line ends of two characters; here they are
    exclusive and count the text as it is. Raises ClickException with the file and the line.
    """
    raw = folder / "raw-documents"
    paths = sorted(raw.rglob("*.txt"))
    documents = {path.name: path.read_bytes().decode("utf-8-sig") for path in paths}
    articles = {path.name: {"Language": path.parent.name} for path in paths if path.parent != raw}
    if not documents:
        raise click.ClickException(f"{folder}: no raw-documents/ with *.txt files")
    narratives = [
        _narrative_row(
            name,
            documents[name].replace("\r\n", "\n"),
            _split(coarse),
            _split(fine),
            articles.get(name),
        )
        for name, coarse, fine in _lines(folder, "subtask-2-annotations.txt", documents, 3)
    ]
    roles = []
    for name, entity, first, last, main, *fine in _lines(
        folder, "subtask-1-annotations.txt", documents, 6
    ):
        text, start, end = place_entity(documents[name], entity, int(first), int(last) + 1)
        identifier = f"{name}#{first}-{last}"
        place, article = (entity, start, end), articles.get(name)
        roles.append(_role_row(identifier, name, text, place, (main, fine), article))
    return pl.DataFrame(narratives, NARRATIVE_COLUMNS), pl.DataFrame(roles, ROLE_COLUMNS)


def place_entity(document: str, entity: str, start: int, end: int) -> tuple[str, int, int]:
    """Text with line ends of one character, and where the entity is in it.

    start, end: characters of the document, end exclusive, with line ends of one character or as the
    document has them. The place is the nearest one that holds the entity, by the count that comes
    nearer; the numbers as they are where the text does not have the entity at all.
    """
    text = document.replace("\r\n", "\n")
    wide = text.replace("\n", "\r\n")
    counts = (start, len(wide[:start].replace("\r\n", "\n")))
    for first in counts:
        if text[first : first + len(entity)] == entity:
            return text, first, first + len(entity)
    places = [match.start() for match in re.finditer(re.escape(entity), text)]
    if not places:
        return text, start, end
    nearest = min(places, key=lambda place: min(abs(place - first) for first in counts))
    return text, nearest, nearest + len(entity)


def read_tables(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same of the tables of the founding document, where ends are exclusive."""
    articles, roles, narratives = (
        pl.concat([pl.read_csv(path) for path in sorted(folder.glob(pattern))])
        for pattern in ("*articles*.csv", "*S1-labels*.csv", "*S2-labels*.csv")
    )
    texts = {row["Filename"]: row for row in articles.iter_rows(named=True)}
    of_narratives = [
        _narrative_row(
            row["Filename"],
            texts[row["Filename"]]["Translated_Text"],
            _split(row["Narrative"]),
            _split(row["Subnarrative"]),
            texts[row["Filename"]],
        )
        for row in narratives.iter_rows(named=True)
        if row["Filename"] in texts and row["Narrative"] is not None
    ]
    of_roles = []
    for row in roles.rename({"Translated_Entity": "Entity"}, strict=False).iter_rows(named=True):
        named = row["Filename"] in texts and row["Label"] is not None and row["Start"] is not None
        if not named:
            continue
        article = texts[row["Filename"]]
        entity, start, end = row["Entity"], int(row["Start"]), int(row["End"])
        fine = [label.strip() for label in row["Label"].split(",") if label.strip()]
        text, start, end = place_entity(article["Translated_Text"], entity, start, end)
        identifier = f"{row['Filename']}#{start}-{end}"
        of_roles.append(
            _role_row(
                identifier, row["Filename"], text, (entity, start, end), (None, fine), article
            )
        )
    return pl.DataFrame(of_narratives, NARRATIVE_COLUMNS), pl.DataFrame(of_roles, ROLE_COLUMNS)


def _lines(
    folder: Path, name: str, documents: dict[str, str], fewest: int
) -> Iterator[tuple[str, ...]]:
    """Fields of each annotation, after the name of its document."""
    for path in sorted((folder / "labels").rglob(name)):
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            fields = tuple(field.strip() for field in line.split("\t") if field.strip())
            if not fields:
                continue
            if len(fields) < fewest or fields[0] not in documents:
                raise click.ClickException(
                    f"{path}, line {number}: expected the name of a document and {fewest - 1} or "
                    f"more fields, separated by tabs, not {line[:80]!r}"
                )
            yield fields


def _split(labels: str | None) -> list[str]:
    """Different labels of a list that is separated by semicolons."""
    return list(dict.fromkeys(one.strip() for one in (labels or OTHER).split(";") if one.strip()))


def _narrative_row(
    name: str,
    text: str,
    coarse: Sequence[str],
    fine: Sequence[str],
    article: dict[str, str] | None = None,
) -> dict[str, object]:
    return {
        "id": name,
        "text": text,
        "labels": list(coarse),
        "labels_fine": list(fine),
        "domain": (article or {}).get("Domain") or _domain(name, coarse),
        "language": (article or {}).get("Language") or _parts(name)[0],
    }


def _role_row(
    identifier: str,
    name: str,
    text: str,
    place: tuple[str, int, int],
    role: tuple[str | None, Sequence[str]],
    article: dict[str, str] | None = None,
) -> dict[str, object]:
    (entity, start, end), (main, fine) = place, role
    return {
        "id": identifier,
        "article": name,
        "text": text,
        "entity": entity,
        "start": start,
        "end": end,
        "main_role": main,
        "labels": list(dict.fromkeys(fine)),
        "domain": (article or {}).get("Domain") or _domain(name, ()),
        "language": (article or {}).get("Language") or _parts(name)[0],
    }


def _domain(name: str, labels: Sequence[str]) -> str | None:
    """Domain that the name of a file says, else that of its labels."""
    said = [*_parts(name), *(label.partition(":")[0] for label in labels)]
    return next((DOMAINS[one] for one in said if one in DOMAINS), None)


def _parts(name: str) -> list[str]:
    """What the name of a file says, as `EN_CC_100013.txt` or `RU-URW-7.txt`."""
    return re.split("[_-]", name.removesuffix(".txt"))


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(folder: Path, output: Path) -> None:
    """Convert one of the layouts."""
    is_official = (folder / "raw-documents").is_dir()
    narratives, roles = read_official(folder) if is_official else read_tables(folder)
    output.mkdir(parents=True, exist_ok=True)
    for name, table in (("narratives", narratives), ("roles", roles)):
        table.write_parquet(output / f"{name}.parquet")
        click.echo(f"{output / name}.parquet: {len(table):,} rows")


if __name__ == "__main__":
    main()
