"""Random mutations of ONNX files, and hashes that match them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

import onnx

from schemas.bundle.props import PREFIX
from tests.robustness.fuzz.mutations.files import ODD_INTEGERS, damage_bytes, damage_json


def damage_metadata(path: Path, rng: Random) -> None:
    """Damage the metadata of an ONNX file."""
    model = onnx.load(path, load_external_data=False)
    props = [prop for prop in model.metadata_props if prop.key.startswith(PREFIX)]
    for prop in rng.sample(props, rng.choice((1, 1, 2))):
        mutation = rng.randrange(10)
        if mutation == 0:
            model.metadata_props.remove(prop)
        elif mutation == 1:
            model.metadata_props.add(key=prop.key, value=damage_json(json.loads(prop.value), rng))
        elif mutation == 2:
            raw = damage_bytes(prop.value.encode(), rng)
            prop.value = raw.decode("utf-8", "replace")
        else:
            prop.value = damage_json(json.loads(prop.value), rng)
    path.write_bytes(model.SerializeToString())


def damage_graph(path: Path, rng: Random) -> None:
    """Change nodes, tensors, inputs or outputs of an ONNX graph that remains well-formed."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for _ in range(rng.choice((1, 1, 2))):
        node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        match rng.randrange(9):
            case 0:
                graph.node.remove(node)
            case 1:
                node.op_type = rng.choice(graph.node).op_type
            case 2 if node.input:
                node.input[rng.randrange(len(node.input))] = rng.choice(graph.node).output[0]
            case 3 if node.input:
                node.input[rng.randrange(len(node.input))] = tensor.name
            case 4 if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(ODD_INTEGERS)
            case 5:
                tensor.data_type = rng.randrange(25)
            case 6:
                tensor.raw_data = damage_bytes(tensor.raw_data, rng)
            case 7:
                value = rng.choice((*graph.input, *graph.output))
                value.type.tensor_type.shape.dim.add().dim_value = rng.choice(ODD_INTEGERS)
            case _:
                value = rng.choice((*graph.input, *graph.output))
                value.name = rng.choice(("", "logits", "input_ids", "x"))
    path.write_bytes(model.SerializeToString())


def update_hashes(bundle: Path, *, tokenizer: bool = False) -> None:
    """Update the hashes in the manifest of a bundle.

    tokenizer: update the hash of the tokenizer in the metadata of the graphs, too.
    """
    if tokenizer:
        digest = hashlib.sha256((bundle / "tokenizer.json").read_bytes()).hexdigest()
        for path in bundle.glob("*.onnx"):
            model = onnx.load(path, load_external_data=False)
            for prop in model.metadata_props:
                if prop.key == PREFIX + "tokenizer_sha256":
                    prop.value = json.dumps(digest)
            path.write_bytes(model.SerializeToString())
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    for name, facts in manifest["files"].items():
        raw = (bundle / name).read_bytes()
        facts |= {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
