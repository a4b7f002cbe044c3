"""`export-classifier verify`: the checks of a bundle again, where there is nothing but the bundle.

Needs neither the checkpoint nor torch: what torch said at export is in the bundle's probes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from batch.checks.doctor import signature_finding
from batch.checks.findings import Finding
from batch.engines import slower_engines
from batch.engines.graph_file import GraphFile
from batch.engines.versions import engine_and_cpu
from batch.machine.cores import usable_cores
from batch.machine.device import choose_device
from batch.scoring.precision import precision_problem
from batch.scoring.runner import GraphRunner
from batch.scoring.scorer import Scorer, open_scorer
from batch.scoring.signature import open_bundle
from exporter.bundle.inspection import metadata_of
from exporter.checks.invariance import Outputs, mismatches, rearranged
from exporter.precision.devices import checking_device
from schemas.bundle.folder import Bundle
from schemas.bundle.probes import Probes, read_probes
from schemas.bundle.variants import Precision
from schemas.errors import NarrascanError, UsageError
from schemas.printable import printable


def recheck(folder: Path, public_key: Path | None = None) -> Iterator[Finding]:
    """Check a bundle: signature, files, and for each task what it says and how it scores.

    public_key: the key that must have signed it, if any.
    Raises UsageError if that is not a key; whatever is wrong with the bundle is a finding.
    """
    try:
        bundle = open_bundle(folder, public_key)
        yield signature_finding(bundle, required=public_key is not None)
    except UsageError:
        raise
    except NarrascanError as error:
        yield Finding.of_error("bundle", error)
        return
    yield from _files(bundle)
    for task in bundle.manifest.tasks:
        try:
            yield from _task(bundle, task)
        except NarrascanError as error:
            yield Finding.of_error(task, error)


def _files(bundle: Bundle) -> Iterator[Finding]:
    """Every file against its hash; a file that no one listed is nothing that scoring would open."""
    changed = 0
    for name in bundle.manifest.files:
        try:
            bundle.read(name)
        except NarrascanError as error:
            changed += 1
            yield Finding.of_error("files", error)
    if not changed:
        count = len(bundle.manifest.files)
        yield Finding("ok", "files", f"{count} files have the sha256 that they had at export")
    files = bundle.files
    known = {files.manifest.name, files.signature.name, *bundle.manifest.files}
    for path in sorted(files.folder.iterdir()):
        if path.name not in known:
            text = f"{printable(path.name)}: is not part of the bundle, and not used"
            yield Finding("note", "files", text)


def _task(bundle: Bundle, task: str) -> Iterator[Finding]:
    """One task, from what its file may hold to the bits of its scores. Raises NarrascanError."""
    GraphFile.of_bundle(bundle, (task,), "fp32").content()
    yield Finding("ok", task, "the graph is one file, without external data")
    scorer = open_scorer(bundle, (task,), choose_device("cpu"), precision="fp32", threads=1)
    yield Finding(
        "ok",
        task,
        f"metadata is valid ({scorer.metadata.answer}), and the tokenizer is the one "
        "that it was exported with",
    )
    probes = _probes_of(bundle, task)
    if probes is None:
        yield Finding("problem", task, "the bundle has no probes for it", "export it again")
        return
    yield _same_tokens(scorer.runner, probes)
    (outputs,) = scorer.runner.outputs(probes.tokenized)
    if not _is_finite(outputs):
        yield Finding("problem", task, "outputs are not finite numbers", "train it again")
        return
    yield _as_recorded(scorer, probes, outputs)
    threads = max(2, usable_cores())
    other = open_scorer(
        bundle, (task,), choose_device("cpu"), precision="fp32", threads=threads
    ).runner
    (threaded,) = other.outputs(probes.tokenized)
    arranged = {
        **rearranged(scorer.runner, probes.tokenized),
        f"with {threads} threads": threaded,
    }
    yield _repeatable(task, outputs, arranged)
    device = scorer.runner.device
    for engine in slower_engines(scorer.runner.engine, "fp32", device):
        slower = open_scorer(bundle, (task,), device, precision="fp32", engine=engine)
        (outputs,) = slower.runner.outputs(probes.tokenized)
        yield _as_recorded(slower, probes, outputs)
    for precision in bundle.precisions((task,)):
        if precision != "fp32":
            yield _variant(bundle, probes, precision)


def _variant(bundle: Bundle, probes: Probes, precision: Precision) -> Finding:
    """A reduced precision of the task: its file, and its scores where this machine can run it."""
    task, graph = probes.task, GraphFile.of_bundle(bundle, (probes.task,), precision)
    metadata = metadata_of(graph, task)
    if precision not in (metadata.precision, *metadata.variants):
        text = f"{precision}: {graph.name} has no variant of this precision"
        return Finding("problem", task, text, "export the checkpoint again")
    device = checking_device(precision)
    problem = precision_problem(precision, device)
    if problem is not None:
        return Finding(
            "note",
            task,
            f"{precision}: {graph.name} is one file with valid metadata; its scores cannot be "
            f"checked here: {problem}",
        )
    runner = open_scorer(bundle, (task,), device, precision=precision).runner
    (outputs,) = runner.outputs(probes.tokenized)
    if not _is_finite(outputs):
        text = f"{precision}: outputs are not finite numbers"
        return Finding("problem", task, text, "export it again")
    arranged = rearranged(runner, probes.tokenized)
    return _repeatable(task, outputs, arranged, prefix=f"{precision}: ")


def _probes_of(bundle: Bundle, task: str) -> Probes | None:
    name = bundle.manifest.tasks[task]["fp32"]
    path = bundle.files.probes
    kept = read_probes(bundle.read(path.name), printable(str(path)))
    return next((one for one in kept if (one.file, one.task) == (name, task)), None)


def _same_tokens(runner: GraphRunner, probes: Probes) -> Finding:
    found = runner.without_windows().tokenize(probes.texts)
    pairs = zip(found, probes.tokenized, strict=True)
    other = sum(not np.array_equal(now.ids, then.ids) for now, then in pairs)
    if other:
        return Finding(
            "problem",
            probes.task,
            f"{other} of {len(found)} probe texts become other tokens than at export",
            "install the version of `tokenizers` that `export-classifier inspect --json` names",
        )
    return Finding("ok", probes.task, f"{len(found)} probe texts become the tokens of the export")


def _as_recorded(scorer: Scorer, probes: Probes, outputs: Outputs) -> Finding:
    """Outputs here against those of the export, which another kind of machine may have made."""
    promise = scorer.metadata.metrics.portability
    pairs = list(zip(outputs, probes.outputs, strict=True))
    for output, recorded in pairs:
        if output.size != recorded.size:
            text = f"the graph gives {output.size} outputs, at export {recorded.size}"
            return Finding("problem", probes.task, text, "export the checkpoint again")
    worst = max(float(np.abs(output.ravel() - recorded).max()) for output, recorded in pairs)
    here = engine_and_cpu(scorer.runner.engine)
    is_same_kind = here == promise.machine
    machine = "on the same kind of machine" if is_same_kind else f"on {promise.machine}"
    distance = "to the last bit" if worst == 0 else f"within {worst:.1e}"
    text = (
        f"outputs by {scorer.runner.engine} are those of the export {machine}, {distance} "
        f"(bound {promise.bound:.1e})"
    )
    if worst <= promise.bound:
        return Finding("ok", probes.task, text)
    return Finding(
        "problem",
        probes.task,
        f"outputs differ by {worst:.1e} from those of the export {machine}, bound "
        f"{promise.bound:.1e}",
        f"this machine is {here}; please report it with both",
    )


def _is_finite(outputs: Outputs) -> bool:
    return all(np.isfinite(output).all() for output in outputs)


def _repeatable(
    task: str, expected: Outputs, arranged: Mapping[str, Outputs], *, prefix: str = ""
) -> Finding:
    """Whether a row has the same bits in every arrangement. prefix: what was run."""
    differing = mismatches(expected, arranged)
    if differing:
        return Finding(
            "problem",
            task,
            f"{prefix}scores of a row differ {', '.join(differing)}",
            "please report it with the processor and the version of the engine",
        )
    return Finding("ok", task, f"{prefix}scores are the same to the last bit {', '.join(arranged)}")
