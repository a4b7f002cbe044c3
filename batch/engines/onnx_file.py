"""Checks of ONNX files: a model with a graph and without external data.

Reads just enough of the protobuf wire format (developers.google.com/protocol-buffers/docs/encoding)
to find every tensor, so that scoring needs no ONNX package. Bytes are checked and never a path:
engines get exactly the bytes that were checked. They would look for external data in the working
folder, and some detect another format by its content and load the weights file beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from schemas.errors import BundleError
from schemas.printable import printable

Message: TypeAlias = Mapping[int, str]
"""Message kind by field number; fields that cannot contain a tensor are left out."""

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
REQUIRED: Mapping[tuple[int, int], str] = {
    (1, VARINT): "ir_version",
    (7, BYTES): "graph",
    (8, BYTES): "opset_import",
}
"""Fields that every ONNX model has, by number and wire type."""
MAX_DEPTH = 100
"""Maximum nesting depth of messages, as in protobuf's own readers."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message. value: of a number. start, end: byte range of anything else."""

    number: int
    wire: int
    value: int
    start: int
    end: int


class _MalformedError(ValueError):
    """The bytes are not a protobuf message."""


def check_onnx(content: bytes, label: str) -> None:
    """Raise BundleError unless these bytes are an ONNX model without external data.

    Covers tensors of sub-graphs, attributes, functions and training graphs, and sparse ones;
    weights are skipped. label: name of the file for messages.
    """
    try:
        with memoryview(content) as data:
            _require_model(data)
            _refuse_external_data(data, label)
    except _MalformedError as error:
        raise BundleError(
            f"{label}: not an ONNX file: {error}", hint="is it a file made by export-classifier?"
        ) from error


def _require_model(data: memoryview) -> None:
    present = {(field.number, field.wire) for field in _fields(data, 0, len(data))}
    missing = [name for field, name in REQUIRED.items() if field not in present]
    if missing:
        raise _MalformedError(f"it has no {missing[0]}")


def _refuse_external_data(data: memoryview, label: str) -> None:
    for start, end in _tensors(data, 0, len(data), "Model", 0):
        name, is_external = "", False
        for field in _fields(data, start, end):
            if field.number == TENSOR_NAME:
                name = bytes(data[field.start : field.end]).decode("utf-8", "replace")
            is_external |= field.number == EXTERNAL_DATA
            is_external |= field.number == DATA_LOCATION and field.value != 0
        if is_external:
            raise BundleError(
                f"{label}: tensor '{printable(name[:80])}' is in another file (external data), "
                "for which no hash is listed",
                hint="save the model as one file, or export the checkpoint again",
            )


def _tensors(
    data: memoryview, start: int, end: int, kind: str, depth: int
) -> Iterator[tuple[int, int]]:
    """Byte ranges of the tensors inside a message of `kind`."""
    if kind == "Tensor":
        yield start, end
        return
    if depth > MAX_DEPTH:
        raise _MalformedError(f"messages are nested more than {MAX_DEPTH} levels deep")
    kinds = MESSAGES[kind]
    for field in _fields(data, start, end):
        if field.number in kinds:
            yield from _tensors(data, field.start, field.end, kinds[field.number], depth + 1)


def _fields(data: memoryview, start: int, end: int) -> Iterator[Field]:
    position = start
    while position < end:
        tag, position = _varint(data, position, end)
        number, wire = tag >> 3, tag & 7
        if tag >= 1 << 32 or number == 0:
            raise _MalformedError(f"tag {tag} before byte {position}")
        value, first = 0, position
        if wire == VARINT:
            value, position = _varint(data, position, end)
            first = position
        elif wire == BYTES:
            length, first = _varint(data, position, end)
            position = first + length
        elif wire in (FIXED64, FIXED32):
            position += 8 if wire == FIXED64 else 4
        else:
            raise _MalformedError(f"wire type {wire} before byte {position}")
        if position > end:
            raise _MalformedError(f"field {number} at byte {first} exceeds its message")
        yield Field(number, wire, value, first, position)


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """Value of a varint (seven bits per byte, lowest first), and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _MalformedError(f"truncated at byte {position}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _MalformedError(f"a varint of more than ten bytes before byte {position}")
