"""Cases with a damaged bundle."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from tests.robustness.fuzz.cases.case import ANY_EXIT_CODE, TASKS, Case, scoring_case
from tests.robustness.fuzz.inputs import FuzzInputs
from tests.robustness.fuzz.mutations.files import damage_bytes, damage_json_file
from tests.robustness.fuzz.mutations.onnx_files import (
    damage_graph,
    damage_metadata,
    update_hashes,
)

EDGE_BYTES = 20_000
"""Bytes at the start and at the end of a file, where its structure is described."""


def bundle_changed(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """A damaged file that does not match the manifest or the signature: always refused."""
    bundle, task = _copy_bundle(inputs, folder), rng.choice(TASKS)
    if rng.random() < 0.5:
        names, options = [f"{task}.onnx", "tokenizer.json"], []
    else:
        names = sorted(path.name for path in bundle.iterdir())
        options = ["--require-signature", str(inputs.public_key)]
    path = bundle / rng.choice(names)
    before = path.read_bytes()
    after = before
    while after == before:
        after = damage_bytes(before, rng)
    path.write_bytes(after)
    # Some bytes of a signature file have no meaning.
    exit_codes = ANY_EXIT_CODE if path.suffix == ".sig" else frozenset({1})
    description = f"bytes of {path.name}, hashes not updated"
    return _case(inputs, folder, task, description, *options, exit_codes=exit_codes)


def bundle_bytes(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """Damaged bytes of a graph or of the tokenizer, with updated hashes."""
    bundle, task = _copy_bundle(inputs, folder), rng.choice(TASKS)
    path = bundle / rng.choice((f"{task}.onnx", f"{task}.onnx", "tokenizer.json"))
    raw = path.read_bytes()
    edge = min(len(raw), EDGE_BYTES)
    windows = ((0, len(raw)), (0, edge), (len(raw) - edge, len(raw)))
    path.write_bytes(damage_bytes(raw, rng, windows))
    update_hashes(bundle, tokenizer=path.suffix == ".json")
    return _case(inputs, folder, task, f"bytes of {path.name}, hashes updated")


def bundle_graph(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """A well-formed but meaningless graph, with updated hashes."""
    bundle, task = _copy_bundle(inputs, folder), rng.choice(TASKS)
    damage_graph(bundle / f"{task}.onnx", rng)
    update_hashes(bundle)
    return _case(inputs, folder, task, f"graph of {task}.onnx, hashes updated")


def bundle_metadata(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """Damaged metadata of a graph, with updated hashes."""
    bundle, task = _copy_bundle(inputs, folder), rng.choice(TASKS)
    damage_metadata(bundle / f"{task}.onnx", rng)
    update_hashes(bundle)
    options = ("--gold-column", "narratives") if rng.random() < 0.3 else ()
    description = f"metadata of {task}.onnx, hashes updated"
    return _case(inputs, folder, task, description, *options)


def bundle_json(inputs: FuzzInputs, folder: Path, rng: Random) -> Case:
    """Damaged values of the tokenizer, with updated hashes, or of the manifest itself."""
    bundle = _copy_bundle(inputs, folder)
    task = rng.choice((*TASKS, "narrative,entity_framing", "outlet,narrative"))
    name = rng.choice(("tokenizer.json", "bundle.json"))
    damage_json_file(bundle / name, rng)
    if name == "tokenizer.json":
        update_hashes(bundle, tokenizer=True)
    return _case(inputs, folder, task, f"values of {name}")


def _copy_bundle(inputs: FuzzInputs, folder: Path) -> Path:
    return Path(shutil.copytree(inputs.bundle, folder / "bundle"))


def _case(
    inputs: FuzzInputs,
    folder: Path,
    task: str,
    description: str,
    *options: str,
    exit_codes: frozenset[int] = ANY_EXIT_CODE,
) -> Case:
    """A run with the bundle in the folder of the case; every third one in bf16, by OpenVINO."""
    options = ("--task", task, "--bundle", str(folder / "bundle"), *options)
    if int(folder.name) % 3 == 0:
        options += ("--precision", "bf16")
    return scoring_case(inputs, folder, inputs.corpus, description, *options, exit_codes=exit_codes)
