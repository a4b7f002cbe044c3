"""What fuzzing does to bytes, JSON and files, each change drawn from one source of chance."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import onnx

from schemas.bundle.metadata import PREFIX

ODD_INTEGERS = (0, 1, 2, 3, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)

ODD_TEXTS = (
    "",
    " ",
    "\0",
    "\n",
    "\x1b[31m",
    "\ud800",
    "\u202e",
    "😀",
    "../../etc/passwd",
    "/dev/zero",
    ".",
    "NaN",
    "none",
    "fp32",
    "int8",
    "a" * 100_000,
)

_RAW = {
    "@deep 90@": "[" * 90 + "]" * 90,
    "@deep 900@": '{"a":' * 900 + "1" + "}" * 900,
    "@deep 50000@": "[" * 50_000 + "]" * 50_000,
    "@digits@": "9" * 5000,
    "@exponent@": "1e999",
    "@minus@": "-0.0",
}
"""What `json.dumps` would not write, by what stands for it until it is written."""

ODD_VALUES: tuple[object, ...] = (
    None,
    True,
    False,
    -1,
    0.5,
    1e308,
    -1e308,
    5e-324,
    10**30,
    -(10**400),
    float("nan"),
    float("inf"),
    float("-inf"),
    [],
    {},
    [None],
    [[]],
    {"": None},
    *ODD_INTEGERS,
    *ODD_TEXTS,
    *_RAW,
)

Window = tuple[int, int]


def damage(raw: bytes, chance: Random, windows: tuple[Window, ...] = ()) -> bytes:
    """Change a few places of some bytes; where `windows` are given, inside of one of them."""
    changed = bytearray(raw)
    first, last = chance.choice(windows) if windows else (0, len(raw))
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = min(chance.randrange(first, max(last, first + 1)), max(len(changed) - 1, 0))
        size = min(chance.choice((1, 2, 4, 8, 64, 1024)), max(last - at, 1))
        _damage_once(changed, at, size, chance)
    return bytes(changed)


def _damage_once(changed: bytearray, at: int, size: int, chance: Random) -> None:
    """Flip, set, zero, cut out, insert, double, move or cut off."""
    match chance.randrange(9):
        case 0 | 1:
            if changed:
                changed[at] ^= 1 << chance.randrange(8)
        case 2:
            if changed:
                changed[at] = chance.choice((0, 1, 127, 128, 254, 255))
        case 3:
            changed[at : at + size] = bytes(len(changed[at : at + size]))
        case 4:
            del changed[at : at + size]
        case 5:
            changed[at:at] = chance.randbytes(size)
        case 6:
            changed[at:at] = changed[at : at + size]
        case 7:
            width = chance.choice((2, 4, 8))
            number = chance.choice(ODD_INTEGERS) % (1 << 8 * width)
            changed[at : at + width] = number.to_bytes(width, chance.choice(("little", "big")))
        case 8:
            if chance.random() < 0.3:
                del changed[at:]
            else:
                other = chance.randrange(len(changed) + 1)
                changed[at : at + size] = changed[other : other + size]


def parquet_windows(raw: bytes) -> tuple[Window, ...]:
    """Pages, footer twice, and the end of a Parquet file."""
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    return ((0, footer), (footer, len(raw) - 8), (footer, len(raw) - 8), (len(raw) - 12, len(raw)))


def damage_json(stored: object, chance: Random) -> str:
    """JSON text of a value in which one to three places are changed."""
    holder = [copy.deepcopy(stored)]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        parent, key = chance.choice(list(_places(holder)))
        _change(parent, key, chance)
    text = json.dumps(holder[0] if holder else None)
    for stand_in, raw in _RAW.items():
        text = text.replace(json.dumps(stand_in), raw)
    return text


def _places(value: object) -> Iterator[tuple[list[object] | dict[str, object], int | str]]:
    """Every place below a value, as its holder and its index or key."""
    keys: list[tuple[int | str, object]] = []
    if isinstance(value, list):
        keys = list(enumerate(value))
    elif isinstance(value, dict):
        keys = list(value.items())
    for key, below in keys:
        yield value, key  # type: ignore[misc]  # one of the two, or there are no keys
        yield from _places(below)


def _as_float(value: float) -> float:
    """A number as a float; infinity for integers that no float can hold."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _change(parent: list[object] | dict[str, object], key: int | str, chance: Random) -> None:
    """Put something else in one place, or take away or add something there."""
    holder: dict[object, object] | list[object] = parent  # type: ignore[assignment]
    value = holder[key]  # type: ignore[index]
    how = chance.randrange(8)
    if how == 0 and isinstance(holder, dict):
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[chance.choice(ODD_TEXTS)] = value
    elif how == 2 and isinstance(value, list):
        value[:] = value[: chance.randrange(len(value) + 1)]
    elif how == 3 and isinstance(value, list):
        value += value[: chance.randrange(1, 4)]
    elif how == 4 and isinstance(value, list):
        chance.shuffle(value)
    elif how == 5 and isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = chance.choice((-value, value + 1, value * 10, _as_float(value), str(value)))  # type: ignore[index]
    else:
        holder[key] = chance.choice(ODD_VALUES)  # type: ignore[index]


def damage_json_file(path: Path, chance: Random) -> None:
    """Change a JSON file in its values, or, more rarely, in its bytes."""
    raw = path.read_bytes()
    try:
        text = damage_json(json.loads(raw), chance) if chance.random() < 0.7 else None
    except (ValueError, RecursionError):  # it is damaged already
        text = None
    path.write_bytes(damage(raw, chance) if text is None else text.encode())


def damage_metadata(path: Path, chance: Random) -> None:
    """Change what an ONNX file says of itself."""
    model = onnx.load(path, load_external_data=False)
    props = [prop for prop in model.metadata_props if prop.key.startswith(PREFIX)]
    for prop in chance.sample(props, chance.choice((1, 1, 2))):
        how = chance.randrange(10)
        if how == 0:
            model.metadata_props.remove(prop)
        elif how == 1:
            model.metadata_props.add(
                key=prop.key, value=damage_json(json.loads(prop.value), chance)
            )
        elif how == 2:
            text = damage(prop.value.encode(), chance).decode("utf-8", "replace")
            prop.value = text
        else:
            prop.value = damage_json(json.loads(prop.value), chance)
    path.write_bytes(model.SerializeToString())


def damage_graph(path: Path, chance: Random) -> None:
    """Change nodes, tensors, inputs or outputs of an ONNX graph, which stays well-formed."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for _ in range(chance.choice((1, 1, 2))):
        node, tensor = chance.choice(graph.node), chance.choice(graph.initializer)
        match chance.randrange(9):
            case 0:
                graph.node.remove(node)
            case 1:
                node.op_type = chance.choice(graph.node).op_type
            case 2 if node.input:
                node.input[chance.randrange(len(node.input))] = chance.choice(graph.node).output[0]
            case 3 if node.input:
                node.input[chance.randrange(len(node.input))] = tensor.name
            case 4 if tensor.dims:
                tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(ODD_INTEGERS)
            case 5:
                tensor.data_type = chance.randrange(25)
            case 6:
                tensor.raw_data = damage(tensor.raw_data, chance)
            case 7:
                shown = chance.choice((*graph.input, *graph.output))
                shown.type.tensor_type.shape.dim.add().dim_value = chance.choice(ODD_INTEGERS)
            case _:
                shown = chance.choice((*graph.input, *graph.output))
                shown.name = chance.choice(("", "logits", "input_ids", "x"))
    path.write_bytes(model.SerializeToString())


def vouch(bundle: Path, *, tokenizer_too: bool = False) -> None:
    """Make the manifest fit the files of a bundle; the graphs' word on the tokenizer, too."""
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    if tokenizer_too:
        digest = hashlib.sha256((bundle / "tokenizer.json").read_bytes()).hexdigest()
        for path in bundle.glob("*.onnx"):
            model = onnx.load(path, load_external_data=False)
            for prop in model.metadata_props:
                if prop.key == PREFIX + "tokenizer_sha256":
                    prop.value = json.dumps(digest)
            path.write_bytes(model.SerializeToString())
    for name, facts in manifest["files"].items():
        raw = (bundle / name).read_bytes()
        facts |= {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")


def damage_folder(folder: Path, chance: Random, *, leave_out: str = "lock") -> list[str]:
    """Damage, remove or replace some files below a folder; returns their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != leave_out)
    chosen = chance.sample(files, min(len(files), chance.choice((1, 1, 2, 3))))
    for path in chosen:
        how = chance.randrange(10)
        if how == 0:
            path.unlink()
        elif how == 1:
            path.unlink()
            path.mkdir()
        elif how == 2:
            path.write_bytes(b"")
        elif how == 3:
            other = chance.choice(files)
            if other.is_file() and other != path:
                shutil.copyfile(other, path)
        elif path.suffix == ".json":
            damage_json_file(path, chance)
        else:
            path.write_bytes(damage(path.read_bytes(), chance))
    return [str(path.relative_to(folder)) for path in chosen]
