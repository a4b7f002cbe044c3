"""An ONNX graph to open: where its bytes come from, and the check of the bytes that are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batch.engines.onnx_file import check_onnx
from schemas.bundle.folder import MAX_FILE_BYTES, Bundle
from schemas.bundle.variants import Precision
from schemas.errors import BundleError
from schemas.io.regular_file import read_regular_file
from schemas.printable import printable


@dataclass(frozen=True)
class GraphFile:
    """A graph that is not read yet.

    label: its path, for messages. name: its file name.
    read: gives the whole file; called for each engine that opens the graph, so that nobody keeps a
    copy of the weights beside those of the engine.
    """

    label: str
    name: str
    read: Callable[[], bytes]

    @classmethod
    def of_bundle(cls, bundle: Bundle, tasks: tuple[str, ...], precision: Precision) -> GraphFile:
        """The graph of a task, or the one that tasks share, held to the bundle's manifest.

        Raises UsageError for tasks or a precision that the bundle does not have.
        """
        name = bundle.graph_name(tasks, precision)
        label = printable(str(bundle.files.folder / name))
        return cls(label, name, lambda: bundle.read(name))

    @classmethod
    def of_path(cls, path: Path) -> GraphFile:
        """A file of a working folder, for which nothing vouches."""
        label = printable(str(path))

        def read() -> bytes:
            try:
                return read_regular_file(path, max_bytes=MAX_FILE_BYTES)
            except OSError as error:
                raise BundleError(f"{label}: cannot be read: {error.strerror}") from error

        return cls(label, path.name, read)

    def content(self) -> bytes:
        """The bytes of an ONNX model without external data. Raises BundleError for any others."""
        content = self.read()
        check_onnx(content, self.label)
        return content
