"""Random mutations of bytes, JSON values and files."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

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

_RAW_JSON = {
    "@deep 90@": "[" * 90 + "]" * 90,
    "@deep 900@": '{"a":' * 900 + "1" + "}" * 900,
    "@deep 50000@": "[" * 50_000 + "]" * 50_000,
    "@digits@": "9" * 5000,
    "@exponent@": "1e999",
    "@minus@": "-0.0",
}
"""JSON that `json.dumps` cannot write, by the placeholder that it replaces afterwards."""

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
    *_RAW_JSON,
)

Window = tuple[int, int]
"""First byte, and the one after the last."""


def damage_bytes(raw: bytes, rng: Random, windows: tuple[Window, ...] = ()) -> bytes:
    """Change a few bytes, within one of `windows` if there are any."""
    damaged = bytearray(raw)
    first, last = rng.choice(windows) if windows else (0, len(raw))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        start = min(rng.randrange(first, max(last, first + 1)), max(len(damaged) - 1, 0))
        size = min(rng.choice((1, 2, 4, 8, 64, 1024)), max(last - start, 1))
        _damage_once(damaged, start, size, rng)
    return bytes(damaged)


def _damage_once(damaged: bytearray, start: int, size: int, rng: Random) -> None:
    """Flip, set, zero, delete, insert, duplicate, copy or truncate."""
    match rng.randrange(9):
        case 0 | 1:
            if damaged:
                damaged[start] ^= 1 << rng.randrange(8)
        case 2:
            if damaged:
                damaged[start] = rng.choice((0, 1, 127, 128, 254, 255))
        case 3:
            damaged[start : start + size] = bytes(len(damaged[start : start + size]))
        case 4:
            del damaged[start : start + size]
        case 5:
            damaged[start:start] = rng.randbytes(size)
        case 6:
            damaged[start:start] = damaged[start : start + size]
        case 7:
            width = rng.choice((2, 4, 8))
            number = rng.choice(ODD_INTEGERS) % (1 << 8 * width)
            damaged[start : start + width] = number.to_bytes(width, rng.choice(("little", "big")))
        case 8:
            if rng.random() < 0.3:
                del damaged[start:]
            else:
                other = rng.randrange(len(damaged) + 1)
                damaged[start : start + size] = damaged[other : other + size]


def parquet_windows(raw: bytes) -> tuple[Window, ...]:
    """Pages, footer twice, and the end of a Parquet file."""
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    return ((0, footer), (footer, len(raw) - 8), (footer, len(raw) - 8), (len(raw) - 12, len(raw)))


def damage_json(value: object, rng: Random) -> str:
    """JSON text of a value with one to three changes."""
    holder = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        parent, key = rng.choice(list(_locations(holder)))
        _change_value(parent, key, rng)
    text = json.dumps(holder[0] if holder else None)
    for placeholder, raw in _RAW_JSON.items():
        text = text.replace(json.dumps(placeholder), raw)
    return text


def _locations(value: object) -> Iterator[tuple[list[object] | dict[str, object], int | str]]:
    """Every nested value, as its list or dict and its index or key."""
    items: list[tuple[int | str, object]] = []
    if isinstance(value, list):
        items = list(enumerate(value))
    elif isinstance(value, dict):
        items = list(value.items())
    for key, nested in items:
        yield value, key  # type: ignore[misc]  # a list or a dict, or there are no items
        yield from _locations(nested)


def _as_float(value: float) -> float:
    """A number as a float; infinity for integers beyond the range of floats."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _change_value(parent: list[object] | dict[str, object], key: int | str, rng: Random) -> None:
    """Replace, remove, rename, shorten, extend or shuffle one value."""
    holder: dict[object, object] | list[object] = parent  # type: ignore[assignment]
    value = holder[key]  # type: ignore[index]
    mutation = rng.randrange(8)
    if mutation == 0 and isinstance(holder, dict):
        del holder[key]
    elif mutation == 1 and isinstance(holder, dict):
        holder[rng.choice(ODD_TEXTS)] = value
    elif mutation == 2 and isinstance(value, list):
        value[:] = value[: rng.randrange(len(value) + 1)]
    elif mutation == 3 and isinstance(value, list):
        value += value[: rng.randrange(1, 4)]
    elif mutation == 4 and isinstance(value, list):
        rng.shuffle(value)
    elif mutation == 5 and isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = rng.choice((-value, value + 1, value * 10, _as_float(value), str(value)))  # type: ignore[index]
    else:
        holder[key] = rng.choice(ODD_VALUES)  # type: ignore[index]


def damage_json_file(path: Path, rng: Random) -> None:
    """Damage the values of a JSON file, or, less often, its bytes."""
    raw = path.read_bytes()
    try:
        text = damage_json(json.loads(raw), rng) if rng.random() < 0.7 else None
    except (ValueError, RecursionError):  # it is damaged already
        text = None
    path.write_bytes(damage_bytes(raw, rng) if text is None else text.encode())


def damage_folder(folder: Path, rng: Random) -> list[str]:
    """Damage, remove or replace some files below a folder, locks excluded; returns their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    targets = rng.sample(files, min(len(files), rng.choice((1, 1, 2, 3))))
    for path in targets:
        mutation = rng.randrange(10)
        if mutation == 0:
            path.unlink()
        elif mutation == 1:
            path.unlink()
            path.mkdir()
        elif mutation == 2:
            path.write_bytes(b"")
        elif mutation == 3:
            other = rng.choice(files)
            if other.is_file() and other != path:
                shutil.copyfile(other, path)
        elif path.suffix == ".json":
            damage_json_file(path, rng)
        else:
            path.write_bytes(damage_bytes(path.read_bytes(), rng))
    return [str(path.relative_to(folder)) for path in targets]
