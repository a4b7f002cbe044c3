"""One run: plan, score chunk by chunk, publish."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from importlib.metadata import version
from operator import add

import numpy as np

from batch.device import choose_device, installed_engines
from batch.gold import check_gold, gold_matrix
from batch.options import RunOptions
from batch.output import Marker, OutputFolder
from batch.parts import part_name, prediction_table, quarantine_table
from batch.plan import Chunk, Plan, make_plan
from batch.progress import RunProgress
from batch.report import build_report, write_report
from batch.rows import ChunkReader, Rows
from batch.scorer import OnBatch, Scored, Scorer, open_scorer
from batch.stats import ChunkStats, count_rows
from batch.stop import StopSwitch
from schemas.bundle import Bundle
from schemas.errors import OutputError, UsageError
from schemas.files import write_atomic
from schemas.metadata import SCHEMA_VERSION, ArtefactMetadata
from schemas.text import EMPTY

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


@dataclass(frozen=True)
class RunResult:
    """How a finished run ended. scored_now: rows scored by this attempt, resumed ones left out."""

    counts: Counts
    scored_now: int
    seconds: float
    device: str


@dataclass
class _Work:
    """What this attempt did itself."""

    rows: int = 0
    tokens: int = 0


def run(options: RunOptions, progress: RunProgress) -> RunResult:
    """Score a corpus, or finish what an earlier attempt left.

    Raises NarrascanError; whatever is finished stays, and the same call resumes.
    """
    started = datetime.now(UTC)
    clock = time.monotonic()
    switch = StopSwitch(options.deadline_s)
    with switch.listening():
        scorer, bundle = _open(options)
        progress.note("device", _device_line(scorer), device=scorer.runner.device.name)
        plan = make_plan(options, entity_markers=scorer.metadata.text.entity_markers)
        if options.gold_column is not None and not options.ignore_unknown_gold:
            check_gold(plan, options.gold_column, scorer.metadata.labels)
        output = OutputFolder(options.output)
        with output.held(overwrite=options.overwrite):
            key = _key(options, plan, bundle, scorer)
            output.claim(key)
            work = _Work()
            markers = _score_all(plan, options, scorer, output, progress, switch, work)
            stats = reduce(add, (marker.chunk_stats() for marker in markers))
            counts = _counts(stats)
            seconds = time.monotonic() - clock
            if work.rows or not output.run_file.exists():
                _publish_report(options, scorer.metadata, output, stats)
                timings = _timings(started, seconds, work)
                record = _record(key, counts, markers, scorer, options, timings)
                write_atomic(output.run_file, json.dumps(record, indent=1, ensure_ascii=False))
            else:
                progress.note("complete", f"{options.output}: already complete, nothing to do")
    return RunResult(counts, work.rows, seconds, scorer.runner.device.name)


def look(options: RunOptions) -> dict[str, object]:
    """Check everything that can be checked without scoring, and tell what a run would do."""
    scorer, bundle = _open(options)
    plan = make_plan(options, entity_markers=scorer.metadata.text.entity_markers)
    if options.gold_column is not None and not options.ignore_unknown_gold:
        check_gold(plan, options.gold_column, scorer.metadata.labels)
    return {
        "task": options.task,
        "bundle_sha256": bundle.sha256,
        "device": scorer.runner.device.name,
        "device_why": scorer.runner.device.why,
        "files": len(plan.files),
        "rows": plan.rows,
        "chunks": len(plan.chunks),
        "kept_columns": plan.kept.names,
        "labels": len(scorer.metadata.labels),
    }


def _open(options: RunOptions) -> tuple[Scorer, Bundle]:
    bundle = Bundle.open(options.bundle)
    bundle.onnx(options.task)  # an unknown task is told before a device is looked for
    scorer = open_scorer(
        bundle,
        options.task,
        choose_device(options.device),
        threads=options.threads,
        tokens_per_batch=options.tokens_per_batch,
    )
    if options.precision not in ("auto", scorer.metadata.precision):
        raise UsageError(
            f"--precision {options.precision}: task {options.task!r} of {options.bundle} is there "
            f"in {scorer.metadata.precision} only",
            hint="use --precision auto",
        )
    return scorer, bundle


def _score_all(
    plan: Plan,
    options: RunOptions,
    scorer: Scorer,
    output: OutputFolder,
    progress: RunProgress,
    switch: StopSwitch,
    work: _Work,
) -> list[Marker]:
    """Finish every chunk that has no valid marker; returns the markers in order."""
    metadata = scorer.metadata
    reader = ChunkReader(plan, options, metadata.text, max_tokens=metadata.max_tokens)
    markers = {chunk.index: output.finished(chunk) for chunk in plan.chunks}
    done = sum(chunk.rows for chunk in plan.chunks if markers[chunk.index] is not None)
    if done:
        progress.note("resume", f"resuming: {done:,} of {plan.rows:,} rows are finished", done=done)
    progress.start(rows=plan.rows, done=done)

    def on_batch(rows: int, tokens: int) -> None:
        work.tokens += tokens
        progress.advance(rows, tokens)
        switch.check()

    try:
        for chunk in plan.chunks:
            if markers[chunk.index] is not None:
                continue
            switch.check()
            rows = reader.read(chunk)
            scored, statuses = _score_rows(rows, scorer, on_batch)
            unscored = sum(status in ("empty", "quarantined") for status in statuses)
            progress.advance(unscored, 0)
            markers[chunk.index] = _finish(
                plan, chunk, rows, scored, statuses, options, scorer, output
            )
            work.rows += chunk.rows
    finally:
        progress.close()
    return [marker for marker in markers.values() if marker is not None]


def _score_rows(rows: Rows, scorer: Scorer, on_batch: OnBatch) -> tuple[Scored, list[str]]:
    """Score what has text; every row of the chunk gets a result and a status."""
    places = [row for row, text in enumerate(rows.texts) if text is not None and text != EMPTY]
    texts = [text for text in rows.texts if text is not None and text != EMPTY]
    found = scorer.score(texts, on_batch=on_batch)
    shape = (len(rows.texts), len(scorer.metadata.labels))
    whole = Scored(
        probabilities=np.zeros(shape, np.float32),
        decided=np.zeros(shape, np.bool_),
        tokens=np.zeros(shape[0], np.int32),
        truncated=np.zeros(shape[0], np.bool_),
    )
    whole.probabilities[places] = found.probabilities
    whole.decided[places] = found.decided
    whole.tokens[places] = found.tokens
    whole.truncated[places] = found.truncated
    statuses = [
        "quarantined"
        if reason is not None
        else "empty"
        if text == EMPTY
        else "truncated"
        if truncated
        else "ok"
        for text, reason, truncated in zip(rows.texts, rows.reasons, whole.truncated, strict=True)
    ]
    return whole, statuses


def _finish(
    plan: Plan,
    chunk: Chunk,
    rows: Rows,
    scored: Scored,
    statuses: Sequence[str],
    options: RunOptions,
    scorer: Scorer,
    output: OutputFolder,
) -> Marker:
    labels = scorer.metadata.labels
    source = plan.files[chunk.file].source.name
    gold, has_gold = gold_matrix(rows.gold, labels) if _any_gold(rows) else (None, None)
    stats = count_rows(
        domains=rows.domains,
        statuses=statuses,
        tokens=scored.tokens,
        probabilities=scored.probabilities,
        decided=scored.decided,
        gold=gold,
        has_gold=has_gold,
    )
    part = prediction_table(rows, scored, statuses, labels, chunk=chunk, source=source)
    quarantine = quarantine_table(rows, chunk=chunk, source=source, id_column=options.id_column)
    return output.publish_chunk(chunk, part, quarantine, stats, source=source)


def _any_gold(rows: Rows) -> bool:
    """True if any row of the chunk has gold labels."""
    return any(names is not None for names in rows.gold)


def _publish_report(
    options: RunOptions,
    metadata: ArtefactMetadata,
    output: OutputFolder,
    stats: ChunkStats,
) -> None:
    report = build_report(
        stats,
        task=options.task,
        labels=metadata.labels,
        thresholds=metadata.thresholds,
        gold_column=options.gold_column,
    )
    try:
        write_report(report, output.folder)
    except OSError as error:
        raise OutputError(
            f"{output.folder}: the report cannot be written: {error}",
            hint="make room, then run the same command again: it resumes",
        ) from error


def _counts(stats: ChunkStats) -> Counts:
    domains = stats.domains.values()
    return Counts(
        *(
            sum(getattr(domain, name) for domain in domains)
            for name in ("rows", "ok", "truncated", "empty", "quarantined")
        )
    )


def _key(options: RunOptions, plan: Plan, bundle: Bundle, scorer: Scorer) -> dict[str, object]:
    """Everything that the output depends on; a resumed run must agree in all of it."""
    return {
        "task": options.task,
        "bundle_sha256": bundle.sha256,
        "options": {
            **options.shaping(),
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


def _record(
    key: dict[str, object],
    counts: Counts,
    markers: Sequence[Marker],
    scorer: Scorer,
    options: RunOptions,
    timings: dict[str, object],
) -> dict[str, object]:
    """`run.json`. Only `timings` differs between two runs over the same input."""
    outputs = {}
    for marker in markers:
        outputs[f"predictions/{part_name(marker.index)}"] = marker.part.model_dump()
        if marker.quarantine is not None:
            outputs[f"quarantine/{part_name(marker.index)}"] = marker.quarantine.model_dump()
    device = scorer.runner.device
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "finished",
        "task": options.task,
        "config": {
            "corpus": list(options.corpus),
            **(key["options"] if isinstance(key["options"], dict) else {}),
            "device": options.device,
            "max_quarantined": options.max_quarantined,
        },
        "bundle": {"path": str(options.bundle), "sha256": key["bundle_sha256"]},
        "inputs": key["inputs"],
        "outputs": outputs,
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


def _timings(started: datetime, seconds: float, work: _Work) -> dict[str, object]:
    return {
        "started_at": started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "rows_scored": work.rows,
        "tokens_scored": work.tokens,
        "rows_per_s": round(work.rows / max(seconds, 1e-9), 1),
        "tokens_per_s": round(work.tokens / max(seconds, 1e-9)),
    }


def _device_line(scorer: Scorer) -> str:
    device = scorer.runner.device
    return f"device: {device.name} ({device.why})"
