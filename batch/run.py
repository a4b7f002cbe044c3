"""One run: plan, score chunk by chunk, publish."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from batch.device import choose_device
from batch.gold import check_gold, gold_matrix
from batch.options import RunOptions
from batch.output import OutputFolder
from batch.page import write_report
from batch.parts import prediction_table, quarantine_table
from batch.plan import Chunk, Plan, make_plan
from batch.precision import choose_precision
from batch.progress import RunProgress
from batch.record import (
    Counts,
    Work,
    attempt_timings,
    count_statuses,
    merge_markers,
    run_key,
    run_record,
)
from batch.report import JointReport, build_report
from batch.rows import ChunkReader, Rows
from batch.scorer import OnBatch, Scored, Scorer, label_slices, open_scorer
from batch.signature import open_bundle
from batch.stats import RunStats, count_rows
from batch.stop import StopSwitch
from batch.tasks import RunTasks, select_tasks
from schemas.bundle import Bundle
from schemas.errors import OutputError
from schemas.text import EMPTY


@dataclass(frozen=True)
class RunResult:
    """How a finished run ended. scored_now: rows scored by this attempt, resumed ones left out."""

    counts: Counts
    scored_now: int
    seconds: float
    device: str


def run(options: RunOptions, progress: RunProgress) -> RunResult:
    """Score a corpus, or finish what an earlier attempt left.

    Raises NarrascanError; whatever is finished stays, and the same call resumes.
    """
    started = datetime.now(UTC)
    clock = time.monotonic()
    switch = StopSwitch(options.deadline_s)
    with switch.listening():
        scorer, bundle = open_model(options)
        progress.note("device", _device_line(scorer), device=scorer.runner.device.name)
        plan = plan_run(options, scorer)
        output = OutputFolder(options.output)
        with output.held(overwrite=options.overwrite):
            key = run_key(options, plan, bundle, scorer)
            output.claim(key)
            work = Work()
            _score_all(plan, options, scorer, output, progress, switch, work)
            stats, outputs = merge_markers(plan, output)
            counts = count_statuses(stats)
            seconds = time.monotonic() - clock
            if work.rows or not output.is_published():
                _publish_report(plan, scorer, output, stats)
                times = attempt_timings(started, seconds, work)
                record = run_record(key, counts, outputs, scorer, options, times)
                output.write(output.run_file, json.dumps(record, indent=1, ensure_ascii=False))
            else:
                progress.note("complete", f"{options.output}: already complete, nothing to do")
    return RunResult(counts, work.rows, seconds, scorer.runner.device.name)


def open_model(options: RunOptions) -> tuple[Scorer, Bundle]:
    """Open the bundle, with the signature that is required of it, and its tasks on the device.

    Raises UsageError, BundleError or DeviceError.
    """
    bundle = open_bundle(options.bundle, options.require_signature)
    tasks = select_tasks(bundle, options.task)
    device = choose_device(options.device)
    scorer = open_scorer(
        bundle,
        tasks,
        device,
        precision=choose_precision(bundle, tasks, device, options.precision),
        threads=options.threads,
        tokens_per_batch=options.tokens_per_batch,
    )
    return scorer, bundle


def plan_run(options: RunOptions, scorer: Scorer) -> Plan:
    """Plan the corpus for the tasks of a scorer, and check the gold labels that it has.

    Raises UsageError or CorpusError.
    """
    tasks = RunTasks.parse(tuple(scorer.labels), options.gold_columns)
    plan = make_plan(options, tasks, entity_markers=scorer.metadata.text.entity_markers)
    if not options.ignore_unknown_gold:
        for task, column in tasks.gold.items():
            check_gold(plan, column, scorer.labels[task])
    return plan


def _score_all(
    plan: Plan,
    options: RunOptions,
    scorer: Scorer,
    output: OutputFolder,
    progress: RunProgress,
    switch: StopSwitch,
    work: Work,
) -> None:
    """Finish every chunk that has no valid marker."""
    metadata = scorer.metadata
    reader = ChunkReader(plan, options, metadata.text, max_tokens=metadata.max_tokens)
    todo = [chunk for chunk in plan.chunks if not output.is_finished(chunk)]
    done = plan.rows - sum(chunk.rows for chunk in todo)
    if done:
        progress.note("resume", f"resuming: {done:,} of {plan.rows:,} rows are finished", done=done)
    if todo:
        output.run_file.unlink(missing_ok=True)  # a run with a part to redo is not finished
    progress.start(rows=plan.rows, done=done)

    def on_batch(rows: int, tokens: int) -> None:
        work.tokens += tokens
        progress.advance(rows, tokens)
        switch.check()

    try:
        for chunk in todo:
            switch.check()
            rows = reader.read(chunk)
            scored, statuses = _score_rows(rows, scorer, on_batch)
            unscored = sum(status in ("empty", "quarantined") for status in statuses)
            progress.advance(unscored, 0)
            _finish(plan, chunk, rows, scored, statuses, options, scorer, output)
            work.rows += chunk.rows
            pa.default_memory_pool().release_unused()  # give back what the chunk needed
    finally:
        progress.close()


def _score_rows(rows: Rows, scorer: Scorer, on_batch: OnBatch) -> tuple[Scored, list[str]]:
    """Score what has text; every row of the chunk gets a result and a status."""
    places = [row for row, text in enumerate(rows.texts) if text is not None and text != EMPTY]
    texts = [text for text in rows.texts if text is not None and text != EMPTY]
    found = scorer.score(texts, on_batch=on_batch)
    shape = (len(rows.texts), found.probabilities.shape[1])
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
) -> None:
    """Count and write one chunk."""
    source = plan.files[chunk.file].source.name
    stats = _count(rows, scored, statuses, scorer)
    part = prediction_table(rows, scored, statuses, scorer.labels, chunk=chunk, source=source)
    quarantine = quarantine_table(rows, chunk=chunk, source=source, id_column=options.id_column)
    output.publish_chunk(chunk, part, quarantine, stats, source=source)


def _count(rows: Rows, scored: Scored, statuses: Sequence[str], scorer: Scorer) -> RunStats:
    counted = {}
    for task, columns in label_slices(scorer.labels).items():
        with_gold = task in rows.gold  # even where this chunk's are all null
        gold, has_gold = (
            gold_matrix(rows.gold[task], scorer.labels[task]) if with_gold else (None, None)
        )
        counted[task] = count_rows(
            domains=rows.domains,
            statuses=statuses,
            tokens=scored.tokens,
            probabilities=scored.probabilities[:, columns],
            decided=scored.decided[:, columns],
            gold=gold,
            has_gold=has_gold,
        )
    return RunStats(counted)


def _publish_report(plan: Plan, scorer: Scorer, output: OutputFolder, stats: RunStats) -> None:
    reports = {
        about.task: build_report(
            stats.tasks[about.task],
            task=about.task,
            labels=about.labels,
            thresholds=about.thresholds,
            gold_column=plan.tasks.gold.get(about.task),
        )
        for about in scorer.tasks
    }
    report = JointReport(tasks=reports) if len(reports) > 1 else reports[scorer.metadata.task]
    try:
        write_report(report, output.folder)
    except OSError as error:
        raise OutputError(
            f"{output.folder}: the report cannot be written: {error}",
            hint="make room, then run the same command again: it resumes",
        ) from error


def _device_line(scorer: Scorer) -> str:
    device = scorer.runner.device
    return f"device: {device.name} ({device.why}), precision: {scorer.metadata.precision}"
