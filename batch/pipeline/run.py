"""One run: plan, score chunk by chunk, publish."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batch.corpus.gold import check_gold
from batch.corpus.plan import Chunk, Plan, chunks_of, make_plan
from batch.corpus.sources.hashing import HashJournal, check_unchanged, fingerprint_file
from batch.corpus.sources.versions import CheckStop, never_stop
from batch.corpus.tasks import RunTasks
from batch.machine.device import Device, choose_device
from batch.options import CacheOptions, CorpusOptions, ModelOptions, OutputOptions, RunOptions
from batch.output.identity import ModelIdentity, RunIdentity, RunKey
from batch.output.locked import LockedOutput, lock_output
from batch.output.publish import publish_run
from batch.output.record import Counts, RunFacts, ShardRecord, Timings, merge_markers, now
from batch.pipeline.chunks import ChunkWorker, do_chunks
from batch.pipeline.progress import RunProgress
from batch.pipeline.stop import StopSwitch
from batch.scoring.cache import LogitCache
from batch.scoring.precision import choose_precision
from batch.scoring.scorer import Scorer, open_scorer
from batch.scoring.signature import open_bundle
from batch.scoring.tasks import select_tasks
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import Precision
from schemas.errors import listing

Fingerprints = dict[str, str]
"""Fingerprints of the content of the inputs, by name, in their order."""

QUICKLY_HASHED_BYTES = 2_000_000_000
"""Above it, a line says what the run is doing: a second or two are hashed without one."""


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


def run(options: RunOptions, progress: RunProgress, switch: StopSwitch) -> RunResult:
    """Score a corpus, or finish what an earlier attempt left.

    Raises NarrascanError; whatever is finished stays, and the same call resumes.
    """
    started, clock = now(), time.monotonic()
    with ExitStack() as stack:
        switch.check()
        model = choose_model(options.model)
        options = options.on(model.device.kind)
        switch.check()
        scorer = open_model(options.model, model)
        model_identity = identify_model(model, scorer)
        cache = _open_cache(options.cache, model_identity, progress)
        if cache is not None:
            scorer = scorer.with_cache(stack.enter_context(closing(cache)))
        progress.note("device", _device_line(scorer), device=scorer.runner.device.name)
        plan = plan_run(options.corpus, scorer, switch.check, leave_out=options.output.folder)
        _report_plan(plan, progress)
        check_gold_labels(options.corpus, plan, scorer, switch.check)
        output = stack.enter_context(_locked_output(options.output, plan, progress))
        shard: RunKey = {} if options.output.shard is None else {"shard": str(options.output.shard)}
        unhashed = RunIdentity.of(options, plan, model_identity, model.bundle, {})
        output.refuse_other_run({**unhashed.key, **shard})
        fingerprints = _hash_inputs(plan, output, progress, switch)
        identity = RunIdentity.of(options, plan, model_identity, model.bundle, fingerprints)
        output.claim({**identity.key, **shard})
        chunks = chunks_of(plan, options.output.shard)
        worker = ChunkWorker(
            plan,
            options.corpus,
            options.output.probabilities,
            scorer,
            output,
            identity,
            progress,
            switch,
        )
        _finish(chunks, worker, identity, output, progress, switch)
        _check_corpus(plan, fingerprints, progress, switch)
        seconds = time.monotonic() - clock
        timings = Timings.of(started, seconds, rows=worker.rows, tokens=worker.tokens)
        facts = RunFacts.of(options, plan, identity.key, scorer)
        counts = _publish(options.output, facts, plan, chunks, output, timings, progress)
        output.journal.unlink(missing_ok=True)  # the same folder for every history of stops
        if cache is not None:
            progress.note("cache", cache.summary())
    return RunResult(counts, worker.rows, seconds, scorer.runner.device.name)


def choose_model(options: ModelOptions) -> Model:
    """Open the bundle, with the signature that is required of it, and choose what runs it.

    Raises UsageError, BundleError or DeviceError.
    """
    bundle = open_bundle(options.bundle, options.require_signature)
    tasks = select_tasks(bundle, options.task)
    device = choose_device(options.device, memory_bytes=options.gpu_memory_bytes)
    precision = choose_precision(bundle, tasks, device, options.precision)
    return Model(bundle, tasks, device, precision)


def open_model(options: ModelOptions, model: Model) -> Scorer:
    """Open the tasks on the device. Raises UsageError, BundleError or DeviceError."""
    return open_scorer(
        model.bundle,
        model.tasks,
        model.device,
        precision=model.precision,
        threads=options.threads,
        tokens_per_batch=options.tokens_per_batch,
        neighbours=options.neighbours,
    )


def identify_model(model: Model, scorer: Scorer) -> ModelIdentity:
    """Identity of a model that is open, on this machine."""
    return ModelIdentity.of(
        model.bundle,
        model.tasks,
        model.device,
        precision=model.precision,
        engine=scorer.runner.engine,
        max_tokens_per_batch=scorer.runner.tokens_per_batch,
        neighbours=scorer.neighbours,
    )


def plan_run(
    options: CorpusOptions,
    scorer: Scorer,
    check_stop: CheckStop = never_stop,
    *,
    leave_out: Path | None = None,
    keep_columns: bool = True,
) -> Plan:
    """Plan the corpus for the tasks of a scorer. Raises UsageError or CorpusError.

    keep_columns: predictions will be written, and take over the columns of the corpus.
    """
    tasks = RunTasks.parse(
        {metadata.task: metadata.kind for metadata in scorer.tasks},
        options.gold_columns,
        neighbours=scorer.neighbours,
    )
    text = scorer.metadata.text
    return make_plan(
        options, tasks, text, check_stop, leave_out=leave_out, keep_columns=keep_columns
    )


def check_gold_labels(
    options: CorpusOptions, plan: Plan, scorer: Scorer, check_stop: CheckStop = never_stop
) -> None:
    """Read the gold labels of a whole corpus, and refuse those that the model does not know.

    Raises CorpusError.
    """
    ignored = options.ignore_unknown_gold
    for metadata in scorer.tasks:
        column, kind = plan.tasks.gold.get(metadata.task), plan.tasks.kind(metadata.task)
        if column is not None:
            check_gold(plan, kind, column, metadata.labels, check_stop, ignore_unknown=ignored)


def _open_cache(
    options: CacheOptions | None, identity: ModelIdentity, progress: RunProgress
) -> LogitCache | None:
    if options is None:
        return None
    return LogitCache(
        options.folder,
        identity.digest(),
        max_bytes=options.max_bytes,
        note=partial(progress.note, "cache"),
        is_private=options.is_private,
    )


def _report_plan(plan: Plan, progress: RunProgress) -> None:
    """Log what of the corpus is left out, and what is written as another type."""
    if (summary := plan.listing.summary()) is not None:
        progress.note("left_out", summary, count=plan.listing.left_out_count)
    for note in plan.notes:
        progress.note("columns", note)


@contextmanager
def _locked_output(
    options: OutputOptions, plan: Plan, progress: RunProgress
) -> Iterator[LockedOutput]:
    """The output folder, locked; reports the owner of the lock if that was killed."""
    with lock_output(
        options.folder,
        chunks=len(plan.chunks),
        is_shard=options.shard is not None,
        overwrite=options.overwrite,
    ) as output:
        if output.stale is not None:
            progress.note(
                "stale", f"{options.folder}: {output.stale}, exited without releasing the lock"
            )
        yield output


def _hash_inputs(
    plan: Plan, output: LockedOutput, progress: RunProgress, switch: StopSwitch
) -> Fingerprints:
    """Fingerprint of every input by name. A run that is stopped here resumes where it was."""
    known_bytes = sum(file.source.version.size or 0 for file in plan.files)
    if known_bytes > QUICKLY_HASHED_BYTES:
        count = len(plan.files)
        progress.note(
            "hash",
            f"hashing {count:,} file{'' if count == 1 else 's'}, {known_bytes / 1e9:,.1f} GB",
        )
    with HashJournal(output.journal) as journal:
        return {
            file.source.name: fingerprint_file(file.source, journal, switch.check)
            for file in plan.files
        }


def _check_corpus(
    plan: Plan, fingerprints: Fingerprints, progress: RunProgress, switch: StopSwitch
) -> None:
    """See that no input changed while it was read. Raises CorpusError."""
    added = check_unchanged(plan.listing, fingerprints, switch.check)
    if added:
        progress.note(
            "added",
            f"{len(added):,} files were added to the corpus since the run began and are not part "
            f"of it: {listing(added, 3)}",
        )


def _finish(
    chunks: Sequence[Chunk],
    worker: ChunkWorker,
    identity: RunIdentity,
    output: LockedOutput,
    progress: RunProgress,
    switch: StopSwitch,
) -> None:
    """Finish every chunk that has no valid marker."""
    output.refuse_strays([chunk.index for chunk in chunks])
    todo = []
    for chunk in chunks:
        switch.check()
        if not output.is_finished(identity.address(chunk)):
            todo.append(chunk)
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
    options: OutputOptions,
    facts: RunFacts,
    plan: Plan,
    chunks: Sequence[Chunk],
    output: LockedOutput,
    timings: Timings,
    progress: RunProgress,
) -> Counts:
    """Write what comes last: the report and `run.json`, or for a shard what a merge needs."""
    stats, outputs = merge_markers(output, [chunk.index for chunk in chunks])
    output.refuse_other_outputs(outputs)
    if output.is_published():  # `_finish` takes the last file away where it scores anything
        progress.note("complete", f"{options.folder}: already complete, nothing to do")
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
