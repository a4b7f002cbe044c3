"""Merging the shards of one corpus into the run that a single machine would have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from batch.output.coverage import Coverage
from batch.output.folder import RUN_FILE, SHARD_FILE, OutputFolder
from batch.output.identity import RunIdentity, differences
from batch.output.locked import LockedOutput, lock_output
from batch.output.publish import publish_run
from batch.output.record import Counts, ShardRecord, Timings, merge_markers
from batch.pipeline.progress import RunProgress
from batch.pipeline.stop import StopSwitch
from schemas.errors import OutputError, UsageError, listing
from schemas.io.files import remedy
from schemas.validation import validation_problems


@dataclass(frozen=True)
class MergeResult:
    """A merged run. max_quarantined: share of rows in [0, 1] that its shards allowed."""

    counts: Counts
    max_quarantined: float


@dataclass(frozen=True)
class FinishedShard:
    """The folder of a finished shard, and what it says of itself."""

    output: OutputFolder
    record: ShardRecord


def merge(
    folders: Sequence[Path],
    target: Path,
    progress: RunProgress,
    switch: StopSwitch,
    *,
    overwrite: bool,
) -> MergeResult:
    """Copy the chunks of all shards and publish the whole; a killed merge is resumed.

    The folder is byte for byte that of a run without shards, but for `timings`. What may differ
    between machines (how the device was chosen, where corpus and bundle lie) is taken from shard 1.
    Raises OutputError for a shard that is missing, unfinished, damaged, or of another run.
    """
    if target.resolve() in [folder.resolve() for folder in folders]:
        raise UsageError(f"--output {target}: is one of the shards", hint="name another folder")
    shards = _one_run([_open(folder) for folder in folders])
    first = shards[1].record
    shard_of = _shard_of_chunks(shards)
    with lock_output(target, chunks=first.chunks, overwrite=overwrite) as output:
        output.claim(first.facts.key)
        output.refuse_strays(range(first.chunks))
        _adopt_all(shard_of, shards[1], output, switch)
        stats, outputs = merge_markers(output, range(first.chunks))
        output.refuse_other_outputs(outputs)
        if output.is_published():
            progress.note("complete", f"{target}: already complete, nothing to do")
        else:
            timings = Timings.of_all([shard.record.timings for shard in shards.values()])
            publish_run(output, first.facts, stats, outputs, timings)
    return MergeResult(Counts.of(stats), first.facts.max_quarantined)


def _adopt_all(
    shard_of: Mapping[int, FinishedShard],
    first: FinishedShard,
    output: LockedOutput,
    switch: StopSwitch,
) -> None:
    """Copy every chunk that is not there yet, after a look at the rows that it stands for.

    Raises OutputError if the chunks are not the rows of the inputs, each once and in order.
    """
    coverage = Coverage(_identity_of(first))
    for index in range(first.record.chunks):
        switch.check()
        shard = shard_of[index].output
        try:
            marker = shard.marker(index)
            coverage.add(marker.chunk)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{shard.folder}: the marker of chunk {index} does not count: {error}",
                hint="run the command of this shard again, then merge again",
            ) from error
        if not output.is_finished(marker.chunk):
            output.last_file.unlink(missing_ok=True)  # a folder with a part to copy is unfinished
            output.adopt_chunk(marker, shard)
    missing = coverage.missing()
    if missing is not None:
        raise OutputError(
            f"the shards do not hold all rows: {missing}",
            hint="run the commands of all shards again, then merge again",
        )


def _identity_of(shard: FinishedShard) -> RunIdentity:
    try:
        return RunIdentity.of_key(shard.record.facts.key)
    except ValueError as error:
        raise OutputError(
            f"{shard.output.folder / SHARD_FILE}: its key is damaged: {error}",
            hint="run the command of this shard again",
        ) from error


def _open(folder: Path) -> FinishedShard:
    path = folder / SHARD_FILE
    try:
        record = ShardRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise _no_shard(folder) from None
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be read: {error.strerror}", hint=remedy(error)
        ) from error
    except ValidationError as error:
        raise OutputError(
            f"{path}: is damaged: {validation_problems(error, 'shard')}",
            hint="run the command of this shard again",
        ) from error
    return FinishedShard(OutputFolder(folder, chunks=record.chunks, is_shard=True), record)


def _no_shard(folder: Path) -> OutputError:
    if not folder.is_dir():
        return OutputError(f"{folder}: there is no such folder", hint="check the path")
    if (folder / RUN_FILE).exists():
        return OutputError(
            f"{folder}: contains a whole run, not a shard", hint="leave it out of the merge"
        )
    if OutputFolder(folder, chunks=0).markers():
        return OutputError(
            f"{folder}: is not finished",
            hint="run the command of this shard again until it ends with exit 0",
        )
    return OutputError(
        f"{folder}: contains no finished shard ({SHARD_FILE} is missing)",
        hint="shards are made by `batch-classify CORPUS... --shard i/n`",
    )


def _one_run(found: Sequence[FinishedShard]) -> dict[int, FinishedShard]:
    """Shards by number, ascending. Raises OutputError if they are not all those of one run."""
    first, shards = found[0], dict[int, FinishedShard]()
    for shard in found:
        changes = list(differences(_identity(first.record), _identity(shard.record)))
        if changes:
            lines = "\n".join(f"  {change}" for change in changes)
            raise OutputError(
                f"{shard.output.folder}: is of another run than {first.output.folder}; what "
                f"differs:\n{lines}",
                hint="merge shards that were made with the same corpus, bundle and options",
            )
        twin = shards.setdefault(shard.record.number, shard)
        if twin is not shard:
            raise OutputError(
                f"{shard.output.folder}: is shard {shard.record.number} of {shard.record.of}, and "
                f"so is {twin.output.folder}",
                hint="name each shard once",
            )
    missing = [f"{i}/{first.record.of}" for i in range(1, first.record.of + 1) if i not in shards]
    if missing:
        raise OutputError(
            f"shards are missing: {listing(missing)}", hint="name the folders of all shards"
        )
    return dict(sorted(shards.items()))


def _identity(record: ShardRecord) -> dict[str, object]:
    return {**record.facts.key, "shards": record.of, "chunks": record.chunks}


def _shard_of_chunks(shards: Mapping[int, FinishedShard]) -> dict[int, FinishedShard]:
    """Which shard has each chunk, by index. Raises OutputError if a chunk is nowhere."""
    where = {index: shard for shard in shards.values() for index in shard.output.markers()}
    chunks = shards[1].record.chunks
    lost = [index for index in range(chunks) if index not in where]
    if lost:
        raise OutputError(
            f"{len(lost)} of {chunks} chunks are in none of the shards, the first is {lost[0]}: "
            f"{listing(str(shard.output.folder) for shard in shards.values())}",
            hint="a marker was removed; run the commands of all shards again, then merge again",
        )
    return where
