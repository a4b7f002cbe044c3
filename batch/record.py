"""What identifies a run, and what `run.json` says of it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from batch.device import installed_engines
from batch.options import RunOptions
from batch.output import OutputFolder
from batch.parts import part_name
from batch.plan import Plan
from batch.scorer import Scorer
from batch.stats import RunStats
from schemas.bundle import Bundle
from schemas.files import FileFacts
from schemas.metadata import SCHEMA_VERSION

VERSIONED = ("narrascan", "numpy", "pyarrow", "tokenizers")


@dataclass(frozen=True)
class Counts:
    """Rows of a run by what became of them."""

    rows: int
    ok: int
    truncated: int
    empty: int
    quarantined: int

    @property
    def quarantined_share(self) -> float:
        """Share of all rows."""
        return self.quarantined / max(self.rows, 1)


@dataclass
class Work:
    """What this attempt did itself."""

    rows: int = 0
    tokens: int = 0


def count_statuses(stats: RunStats) -> Counts:
    """Rows of all domains by what became of them; that is the same for every task."""
    domains = next(iter(stats.tasks.values())).domains.values()
    return Counts(
        *(
            sum(getattr(domain, name) for domain in domains)
            for name in ("rows", "ok", "truncated", "empty", "quarantined")
        )
    )


def run_key(options: RunOptions, plan: Plan, bundle: Bundle, scorer: Scorer) -> dict[str, object]:
    """Everything that the output depends on; a resumed run must agree in all of it."""
    return {
        "task": ",".join(plan.tasks.names),
        "bundle_sha256": bundle.sha256,
        "options": {
            **options.shaping(),
            "gold_column": plan.tasks.recorded_gold(),
            "precision": scorer.metadata.precision,
            "max_tokens_per_batch": scorer.runner.tokens_per_batch,
        },
        "inputs": {
            file.source.name: {"rows": file.rows, "fingerprint": file.source.fingerprint()}
            for file in plan.files
        },
        "engine": {
            "device": scorer.runner.device.kind,
            "machine": platform.machine(),
            **installed_engines(),
            **{package: version(package) for package in VERSIONED},
        },
    }


def merge_markers(plan: Plan, output: OutputFolder) -> tuple[RunStats, dict[str, FileFacts]]:
    """Add up what the markers of all chunks say; one is held at a time.

    Returns the statistics of the whole run, and the facts of every file of it by relative path.
    """
    stats = RunStats({})
    outputs: dict[str, FileFacts] = {}
    for chunk in plan.chunks:
        marker = output.marker(chunk)
        stats = stats + marker.run_stats()
        outputs[f"predictions/{part_name(chunk.index)}"] = marker.part
        if marker.quarantine is not None:
            outputs[f"quarantine/{part_name(chunk.index)}"] = marker.quarantine
    return stats, outputs


def run_record(
    key: dict[str, object],
    counts: Counts,
    outputs: dict[str, FileFacts],
    scorer: Scorer,
    options: RunOptions,
    timings: dict[str, object],
) -> dict[str, object]:
    """`run.json`. Only `timings` differs between two runs over the same input."""
    device = scorer.runner.device
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "finished",
        "task": key["task"],
        "config": {
            "corpus": list(options.corpus),
            **(key["options"] if isinstance(key["options"], dict) else {}),
            "device": options.device,
            "max_quarantined": options.max_quarantined,
        },
        "bundle": {"path": str(options.bundle), "sha256": key["bundle_sha256"]},
        "inputs": key["inputs"],
        "outputs": {name: facts.model_dump() for name, facts in outputs.items()},
        "counts": {
            "rows": counts.rows,
            "ok": counts.ok,
            "truncated": counts.truncated,
            "empty": counts.empty,
            "quarantined": counts.quarantined,
        },
        "device": {"name": device.name, "provider": device.provider, "why": device.why},
        "versions": key["engine"],
        "timings": timings,
    }


def attempt_timings(started: datetime, seconds: float, work: Work) -> dict[str, object]:
    """When this attempt ran and how fast; the one part of `run.json` that differs between runs."""
    return {
        "started_at": started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "rows_scored": work.rows,
        "tokens_scored": work.tokens,
        "rows_per_s": round(work.rows / max(seconds, 1e-9), 1),
        "tokens_per_s": round(work.tokens / max(seconds, 1e-9)),
    }
