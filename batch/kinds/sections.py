"""Parts of `report.json` that every kind of task has; a kind adds its own by inheritance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, SerializeAsAny

DIGITS = 6

TOKEN_EDGES = (16, 32, 64, 128, 192, 256, 384, 512)
"""Upper edges of the token bins, inclusive; one more bin takes what is longer."""


def rounded(number: float) -> float:
    """A number as the report has it."""
    return round(number, DIGITS)


Number = Annotated[float, AfterValidator(rounded)]


class RowCounts(BaseModel):
    """Rows of one domain, or of the whole corpus; scored rows are ok, windowed or truncated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    ok: int
    windowed: int
    """Read in several windows."""
    truncated: int
    empty: int
    quarantined: int

    @property
    def scored(self) -> int:
        """Rows that the model has read."""
        return self.ok + self.windowed + self.truncated

    @property
    def compared(self) -> int | None:
        """Rows that are compared with gold; None if no row has gold."""
        return None


class SectionReport(RowCounts):
    """One domain, or the whole corpus."""

    tokens_mean: Number
    """Tokens of a scored row."""
    token_histogram: tuple[int, ...]
    """Scored rows by tokens: at most each of the report's `token_edges`, then longer."""


class OthersReport(SectionReport):
    """Domains that are not described one by one, counted together."""

    domains: int
    """How many there are."""
    domains_exact: bool
    """False if `domains` is an estimate, good to about one in a hundred."""


class ReportHead(BaseModel):
    """Which task a report is about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    task: str
    labels: tuple[str, ...]


class Report(ReportHead):
    """What `report.json` contains.

    template, legend: files of `batch/report/templates/`, the task's part of the page and the terms
    that it uses.
    """

    template: ClassVar[str]
    legend: ClassVar[str]

    gold_column: str | None
    token_edges: tuple[int, ...] = TOKEN_EDGES
    notes: tuple[str, ...]
    """What a reader should know before the numbers, in sentences."""
    overall: SerializeAsAny[SectionReport]
    domains: Mapping[str, SerializeAsAny[SectionReport]]
    """The largest, sorted by name; rows without a domain under "(none)". A name of more than 200
    characters is cut and ends in a hash of the whole."""
    others: SerializeAsAny[OthersReport] | None = None
    """All other domains together; null if there are none. `overall` includes them."""

    @property
    def parts(self) -> Mapping[str, str]:
        """Titles of the tables and pictures of several domains, by anchor."""
        raise NotImplementedError

    @property
    def answer(self) -> str:
        """What an article gets."""
        labels = len(self.labels)
        return f"{labels} possible label{'s' * (labels != 1)}"

    @property
    def number_of_domains(self) -> int:
        """How many domains there are, those counted together too."""
        return len(self.domains) + (0 if self.others is None else self.others.domains)


class JointReport(BaseModel):
    """What `report.json` contains of a run over several tasks: the report of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    tasks: dict[str, SerializeAsAny[Report]]
