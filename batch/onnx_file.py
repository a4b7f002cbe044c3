"""What an ONNX file may not do: keep weights in other files, which no hash vouches for.

Reads just enough of the file's protobuf wire format (developers.google.com/protocol-buffers/docs/
encoding) to find every tensor, so that scoring needs no ONNX package. Handing onnxruntime the bytes
instead would not help: it then looks for external files in the working folder.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from schemas.errors import BundleError

Message: TypeAlias = Mapping[int, str]
"""By field number, the kind of message in a field; fields that can hold no tensor are left out."""

MESSAGES: Mapping[str, Message] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Training": {1: "Graph", 2: "Graph"},
}
"""The part of onnx.proto (ONNX 1.20) through which a tensor can be reached."""

TENSOR_NAME, EXTERNAL_DATA, DATA_LOCATION = 8, 13, 14
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_DEPTH = 100
"""Messages inside each other at most, as in protobuf's own readers."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message. value: a number. start, end: where bytes lie in the file."""

    number: int
    value: int
    start: int
    end: int


class _MalformedError(ValueError):
    """The bytes are not a protobuf message."""


def refuse_external_data(path: Path) -> None:
    """Raise BundleError if any tensor of an ONNX file lies outside of it, or if it is not ONNX.

    Tensors of sub-graphs, attributes, functions and training graphs count, sparse ones too. The
    file is mapped and not read: weights are skipped over.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check(memoryview(data), path)
    except (_MalformedError, ValueError) as error:  # an empty file cannot be mapped
        raise BundleError(
            f"{path}: not an ONNX file: {error}", hint="is it a file made by export-classifier?"
        ) from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error


def _check(data: memoryview, path: Path) -> None:
    with data:
        for start, end in _tensors(data, 0, len(data), "Model", 0):
            name, outside = "", False
            for field in _fields(data, start, end):
                if field.number == TENSOR_NAME:
                    name = bytes(data[field.start : field.end]).decode("utf-8", "replace")
                outside |= field.number == EXTERNAL_DATA
                outside |= field.number == DATA_LOCATION and field.value != 0
            if outside:
                raise BundleError(
                    f"{path}: tensor {name[:80]!r} lies in another file (external data), which "
                    "nothing vouches for",
                    hint="save the model as one file, or export the checkpoint again",
                )


def _tensors(
    data: memoryview, start: int, end: int, kind: str, depth: int
) -> Iterator[tuple[int, int]]:
    """Where the tensors below a message of `kind` begin and end."""
    if kind == "Tensor":
        yield start, end
        return
    if depth > MAX_DEPTH:
        raise _MalformedError(f"messages lie deeper than {MAX_DEPTH} in each other")
    inside = MESSAGES[kind]
    for field in _fields(data, start, end):
        if field.number in inside:
            yield from _tensors(data, field.start, field.end, inside[field.number], depth + 1)


def _fields(data: memoryview, start: int, end: int) -> Iterator[Field]:
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if tag >= 1 << 32 or number == 0:
            raise _MalformedError(f"tag {tag} before byte {at}")
        value, first = 0, at
        if wire == VARINT:
            value, at = _varint(data, at, end)
            first = at
        elif wire == BYTES:
            length, first = _varint(data, at, end)
            at = first + length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise _MalformedError(f"wire type {wire} before byte {at}")
        if at > end:
            raise _MalformedError(f"field {number} reaches over its message at byte {first}")
        yield Field(number, value, first, at)


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _MalformedError(f"cut short at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError(f"a number of more than ten bytes before byte {at}")
