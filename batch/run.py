"""One run: plan, score chunk by chunk, publish."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from batch.cache import LogitCache, model_identity
from batch.chunks import ChunkWorker, do_chunks
from batch.corpus.gold import check_gold
from batch.corpus.plan import Chunk, Plan, chunks_of, make_plan
from batch.device import Device, choose_device
from batch.options import RunOptions
from batch.output.folder import OutputFolder
from batch.output.publish import publish_run
from batch.output.record import Counts, RunFacts, ShardRecord, Timings, merge_markers, now, run_key
from batch.precision import choose_precision
from batch.progress import RunProgress
from batch.scorer import TOKENS_PER_BATCH, Scorer, open_scorer
from batch.signature import open_bundle
from batch.stop import StopSwitch
from batch.tasks import RunTasks, select_tasks
from schemas.bundle import Bundle
from schemas.variants import EngineName, Precision


@dataclass(frozen=True)
class RunResult:
    """How a finished run ended. scored_now: rows scored by this attempt, resumed ones left out."""

    counts: Counts
    scored_now: int
    seconds: float
    device: str


@dataclass(frozen=True)
class Model:
    """What scores: chosen, not yet opened."""

    bundle: Bundle
    tasks: tuple[str, ...]
    device: Device
    precision: Precision


def run(options: RunOptions, progress: RunProgress) -> RunResult:
    """Score a corpus, or finish what an earlier attempt left.

    Raises NarrascanError; whatever is finished stays, and the same call resumes.
    """
    started, clock = now(), time.monotonic()
    switch = StopSwitch(options.deadline_s)
    with switch.listening(), ExitStack() as stack:
        model = choose_model(options)
        scorer = open_model(options, model)
        cache = _open_cache(options, model, scorer.runner.engine, progress)
        if cache is not None:
            scorer.runner.cache = stack.enter_context(closing(cache))
        progress.note("device", _device_line(scorer), device=scorer.runner.device.name)
        plan = plan_run(options, scorer)
        output = OutputFolder(options.output, is_shard=options.shard is not None)
        with output.held(overwrite=options.overwrite) as stale:
            if stale is not None:
                progress.note("stale", f"{options.output}: {stale}, ended without letting go of it")
            key = run_key(options, plan, model.bundle, scorer)
            output.claim(key if options.shard is None else {**key, "shard": str(options.shard)})
            chunks = chunks_of(plan, options.shard)
            worker = ChunkWorker(plan, options, scorer, output, progress, switch)
            _finish(chunks, worker, output, progress)
            seconds = time.monotonic() - clock
            timings = Timings.of(started, seconds, rows=worker.rows, tokens=worker.tokens)
            facts = RunFacts.of(options, plan, key, scorer)
            counts = _publish(options, facts, plan, chunks, output, timings, progress)
        if cache is not None:
            progress.note("cache", cache.summary())
    return RunResult(counts, worker.rows, seconds, scorer.runner.device.name)


def choose_model(options: RunOptions) -> Model:
    """Open the bundle, with the signature that is required of it, and choose what runs it.

    Raises UsageError, BundleError or DeviceError.
    """
    bundle = open_bundle(options.bundle, options.require_signature)
    tasks = select_tasks(bundle, options.task)
    device = choose_device(options.device, memory_bytes=options.gpu_memory_bytes)
    precision = choose_precision(bundle, tasks, device, options.precision)
    return Model(bundle, tasks, device, precision)


def open_model(options: RunOptions, model: Model) -> Scorer:
    """Open the tasks on the device. Raises UsageError, BundleError or DeviceError."""
    return open_scorer(
        model.bundle,
        model.tasks,
        model.device,
        precision=model.precision,
        threads=options.threads,
        tokens_per_batch=options.tokens_per_batch,
    )


def plan_run(options: RunOptions, scorer: Scorer) -> Plan:
    """Plan the corpus for the tasks of a scorer, and check the gold labels that it has.

    Raises UsageError or CorpusError.
    """
    tasks = RunTasks.parse(tuple(scorer.labels), options.gold_columns)
    plan = make_plan(options, tasks, entity_markers=scorer.metadata.text.entity_markers)
    for task, column in tasks.gold.items():
        ignored = options.ignore_unknown_gold
        check_gold(plan, column, scorer.labels[task], ignore_unknown=ignored)
    return plan


def _open_cache(
    options: RunOptions, model: Model, engine: EngineName, progress: RunProgress
) -> LogitCache | None:
    if options.cache is None:
        return None
    tokens_per_batch = options.tokens_per_batch or TOKENS_PER_BATCH[model.device.kind]
    identity = model_identity(
        model.bundle,
        model.tasks,
        model.device,
        model.precision,
        engine,
        tokens_per_batch=tokens_per_batch,
    )
    return LogitCache(
        options.cache,
        identity,
        max_bytes=options.cache_bytes,
        note=partial(progress.note, "cache"),
    )


def _finish(
    chunks: Sequence[Chunk], worker: ChunkWorker, output: OutputFolder, progress: RunProgress
) -> None:
    """Finish every chunk that has no valid marker."""
    todo = [chunk for chunk in chunks if not output.is_finished(chunk.index)]
    rows = sum(chunk.rows for chunk in chunks)
    done = rows - sum(chunk.rows for chunk in todo)
    if done:
        progress.note("resume", f"resuming: {done:,} of {rows:,} rows are finished", done=done)
    if todo:
        output.last_file.unlink(missing_ok=True)  # a run with a part to redo is not finished
    progress.start(rows=rows, done=done)
    try:
        do_chunks(worker, todo, progress)
    finally:
        progress.close()


def _publish(
    options: RunOptions,
    facts: RunFacts,
    plan: Plan,
    chunks: Sequence[Chunk],
    output: OutputFolder,
    timings: Timings,
    progress: RunProgress,
) -> Counts:
    """Write what comes last: the report and `run.json`, or for a shard what a merge needs."""
    stats, outputs = merge_markers(output, [chunk.index for chunk in chunks])
    if output.is_published():  # `_finish` takes the last file away where it scores anything
        progress.note("complete", f"{options.output}: already complete, nothing to do")
    elif options.shard is None:
        publish_run(output, facts, stats, outputs, timings)
    else:
        record = ShardRecord(
            number=options.shard.number,
            of=options.shard.of,
            chunks=len(plan.chunks),
            facts=facts,
            timings=timings,
        )
        output.finish(record.model_dump_json(indent=1))
    return Counts.of(stats)


def _device_line(scorer: Scorer) -> str:
    device = scorer.runner.device
    precision, engine = scorer.metadata.precision, scorer.runner.engine
    return f"device: {device.name} ({device.why}), precision: {precision}, engine: {engine}"
