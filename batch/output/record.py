"""Record of a run: what its last file, `run.json` or `shard.json`, says of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue

from batch.corpus.plan import Plan
from batch.corpus.sources.urls import redacted
from batch.options import RunOptions
from batch.output.folder import OutputFolder
from batch.output.identity import RunKey
from batch.report.build import TaskFacts
from batch.report.totals import MergedStats, merge_stats
from batch.scoring.scorer import Scorer
from schemas.bundle.metadata import ArtefactMetadata
from schemas.io.files import FileFacts
from schemas.kinds import KINDS
from schemas.version import SCHEMA_VERSION


@dataclass(frozen=True)
class Counts:
    """Rows of a run by what became of them."""

    rows: int
    ok: int
    windowed: int
    truncated: int
    empty: int
    quarantined: int

    @property
    def scored(self) -> int:
        """Rows that the model has read."""
        return self.ok + self.windowed + self.truncated

    @property
    def quarantined_share(self) -> float:
        """Share of all rows."""
        return self.quarantined / max(self.rows, 1)

    @classmethod
    def of(cls, stats: MergedStats) -> Self:
        """Rows of all domains, the same for every task; a shard may have nothing to do."""
        total = next((task.total.rows for task in stats.tasks.values()), None)
        if total is None:
            return cls(0, 0, 0, 0, 0, 0)
        return cls(
            rows=total.rows,
            ok=total.ok,
            windowed=total.windowed,
            truncated=total.truncated,
            empty=total.empty,
            quarantined=total.quarantined,
        )


class Timings(BaseModel):
    """When a run worked and how fast; the one part of `run.json` that differs between runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    started_at: str
    finished_at: str
    seconds: float
    rows_scored: int
    tokens_scored: int
    rows_per_s: float
    tokens_per_s: int

    @classmethod
    def of(
        cls, started_at: str, seconds: float, *, rows: int, tokens: int, finished_at: str = ""
    ) -> Self:
        """What was done in `seconds`, by default until now."""
        return cls(
            started_at=started_at,
            finished_at=finished_at or now(),
            seconds=round(seconds, 3),
            rows_scored=rows,
            tokens_scored=tokens,
            rows_per_s=round(rows / max(seconds, 1e-9), 1),
            tokens_per_s=round(tokens / max(seconds, 1e-9)),
        )

    @classmethod
    def of_all(cls, parts: Sequence[Timings]) -> Self:
        """Of shards together; `seconds` are those of all machines added up."""
        return cls.of(
            min(part.started_at for part in parts),
            sum(part.seconds for part in parts),
            rows=sum(part.rows_scored for part in parts),
            tokens=sum(part.tokens_scored for part in parts),
            finished_at=max(part.finished_at for part in parts),
        )


class DeviceFacts(BaseModel):
    """The device that scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    provider: str
    why: str


class LeftOutFile(BaseModel):
    """A file or folder of the corpus that is not read, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    reason: str


class RunFacts(BaseModel):
    """What `run.json` and the report say beside what was counted; known before the first row.

    left_out: the first of the files that were not read. left_out_count: all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[TaskFacts, ...]
    key: RunKey
    corpus: tuple[str, ...]
    left_out: tuple[LeftOutFile, ...]
    """The first hundred by name."""
    left_out_count: int
    bundle_path: str
    device_asked: str
    device: DeviceFacts
    max_quarantined: float

    @classmethod
    def of(cls, options: RunOptions, plan: Plan, key: RunKey, scorer: Scorer) -> Self:
        """The facts of a run with these options."""
        device = scorer.runner.device
        return cls(
            tasks=tuple(
                TaskFacts(
                    task=metadata.task,
                    kind=metadata.kind,
                    labels=metadata.labels,
                    decision=_decision(metadata),
                    gold_column=plan.tasks.gold.get(metadata.task),
                )
                for metadata in scorer.tasks
            ),
            key=key,
            corpus=tuple(redacted(entry) for entry in options.corpus.corpus),
            left_out=tuple(
                LeftOutFile(file=one.name, reason=one.reason) for one in plan.listing.left_out
            ),
            left_out_count=plan.listing.left_out_count,
            bundle_path=str(options.model.bundle),
            device_asked=options.model.device,
            device=DeviceFacts(name=device.name, provider=device.provider, why=device.why),
            max_quarantined=options.output.max_quarantined,
        )


class ShardRecord(BaseModel):
    """`shard.json`: a finished shard, and what the merge needs to know.

    number: 1 to `of`. chunks: of the whole corpus.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    status: Literal["finished"] = "finished"
    number: int
    of: int
    chunks: int
    facts: RunFacts
    timings: Timings


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def merge_markers(
    output: OutputFolder, chunks: Iterable[int]
) -> tuple[MergedStats, dict[str, FileFacts]]:
    """Add up what the markers of chunks, by index, say; one is held at a time.

    Returns the statistics of them all, and the facts of their files by relative path.
    """
    indexes = [*chunks]
    outputs: dict[str, FileFacts] = {}
    for index in indexes:
        marker = output.marker(index)
        outputs[f"predictions/{output.part_name(index)}"] = marker.part
        if marker.quarantine is not None:
            outputs[f"quarantine/{output.part_name(index)}"] = marker.quarantine
    stats = merge_stats(lambda: (output.marker(index).run_stats() for index in indexes))
    return stats, outputs


def _decision(metadata: ArtefactMetadata) -> dict[str, JsonValue]:
    """Fields of a task's metadata that its kind decides by."""
    fields = set(KINDS[metadata.kind].Decision.model_fields)
    return metadata.model_dump(mode="json", include=fields)


def run_record(
    facts: RunFacts, counts: Counts, outputs: dict[str, FileFacts], timings: Timings
) -> dict[str, JsonValue]:
    """`run.json`. Only `timings` differs between two runs over the same input."""
    options = facts.key["options"]
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "finished",
        "task": facts.key["task"],
        "config": {
            "corpus": list(facts.corpus),
            **(options if isinstance(options, dict) else {}),
            "device": facts.device_asked,
            "max_quarantined": facts.max_quarantined,
        },
        "bundle": {"path": facts.bundle_path, "sha256": facts.key["bundle_sha256"]},
        "inputs": facts.key["inputs"],
        "left_out": [one.model_dump() for one in facts.left_out],
        "left_out_count": facts.left_out_count,
        "outputs": {name: found.model_dump() for name, found in outputs.items()},
        "counts": asdict(counts),
        "device": facts.device.model_dump(),
        "versions": facts.key["engine"],
        "timings": timings.model_dump(),
    }
