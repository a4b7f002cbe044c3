"""Cases that start from a damaged or interrupted output folder, or from a damaged cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

from tests.robustness.fuzz.cases.case import Case, scoring_case
from tests.robustness.fuzz.cases.process import (
    ProcessConditions,
    other_processor,
    random_signal,
    unwritable_streams,
)
from tests.robustness.fuzz.inputs import FuzzInputs
from tests.robustness.fuzz.mutations.files import damage_folder, damage_json_file


def resumed_run(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """The damaged output folder of an interrupted or finished run, resumed."""
    output = folder / "scored"
    shutil.copytree(inputs.finished, output)
    if rng.random() < 0.7:
        (output / "run.json").unlink()
    state = output / rng.choice((".", ".", ".narrascan", ".narrascan/done"))
    damaged = damage_folder(state, rng)
    if rng.random() < 0.5:
        damaged += _damage_stats(output, rng)
    _add_leftover_files(output, rng)
    options = ["--task", "narrative", "--gold-column", "narratives"]
    if rng.random() < 0.1:
        options += ["--overwrite"]
    return scoring_case(inputs, folder, inputs.corpus, f"resumed: {damaged}", *options)


def merged_shards(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """Two shards, one of them damaged, merged."""
    shards = [
        Path(shutil.copytree(shard, folder / f"shard-{number}"))
        for number, shard in enumerate(inputs.shards, 1)
    ]
    damaged = damage_folder(rng.choice(shards), rng)
    if rng.random() < 0.3:
        damaged += _damage_stats(rng.choice(shards), rng)
    output = folder / "scored"
    arguments = ("merge", *map(str, shards), "--output", str(output))
    return Case(arguments, output, f"merged: {damaged}")


def damaged_cache(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """A damaged cache of scores: the run continues without it."""
    cache = Path(shutil.copytree(inputs.cache, folder / "cache"))
    description = f"cache: {damage_folder(cache, rng)}"
    options = ("--task", "narrative", "--cache", str(cache))
    return scoring_case(
        inputs, folder, inputs.corpus, description, *options, exit_codes=frozenset({0})
    )


def process_conditions(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """A signal at any stage, unwritable streams, another processor, reordered inputs."""
    match rng.randrange(4):
        case 0:
            return _resumed_process(inputs, folder, random_signal(rng), {0, 4})
        case 1:
            return _resumed_process(inputs, folder, unwritable_streams(rng), {0})
        case 2:
            return _resumed_process(inputs, folder, other_processor(), {1})
        case _:
            return _resumed_process(inputs, folder, ProcessConditions(), {1}, reverse=True)


def _resumed_process(
    inputs: FuzzInputs,
    folder: Path,
    process: ProcessConditions,
    exit_codes: set[int],
    *,
    reverse: bool = False,
) -> Case:
    """A run over two corpora without its last chunks, resumed by a separate process."""
    output = folder / "scored"
    shutil.copytree(inputs.finished_pair, output)
    (output / "run.json").unlink()
    for marker in sorted((output / ".narrascan" / "done").glob("*.json"))[2:]:
        marker.unlink()
    files = inputs.corpora[:2]
    arguments = (
        *inputs.arguments(*(reversed(files) if reverse else files)),
        *("--task", "narrative", "--max-quarantined", "1", "--output", str(output)),
    )
    description = f"{process}, inputs in {'reverse' if reverse else 'the same'} order"
    return Case(arguments, output, description, frozenset(exit_codes), process=process)


def _damage_stats(output: Path, rng: Random) -> list[str]:
    """Damage the statistics in the completion marker of one part."""
    markers = [path for path in (output / ".narrascan" / "done").glob("*.json") if path.is_file()]
    if not markers:
        return []
    path = rng.choice(sorted(markers))
    try:
        marker = json.loads(path.read_bytes())
        stats = path.with_name("stats.tmp")
        stats.write_text(json.dumps(marker["stats"]), encoding="utf-8")
        damage_json_file(stats, rng)
        raw = stats.read_text(encoding="utf-8", errors="replace")
        stats.unlink()
        marker["stats"] = "@stats@"
        path.write_text(json.dumps(marker).replace('"@stats@"', raw), encoding="utf-8")
    except (ValueError, KeyError, TypeError, RecursionError):  # it is damaged already
        return []
    return [f"stats of {path.name}"]


def _add_leftover_files(output: Path, rng: Random) -> None:
    """Add files that a killed run, or another program, may leave behind."""
    state = output / ".narrascan"
    for path in (
        state / "scratch" / ".part-00000.parquet.tmp",
        output / ".run.json.tmp",
        state / "done" / ".00001.json.tmp",
        state / "owner.json",
        state / "done" / "x.json",
    ):
        if rng.random() < 0.15 and not path.exists():
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(rng.choice((b"", b"{}", b"\xff" * 50)))
