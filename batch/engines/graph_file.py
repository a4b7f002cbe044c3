"""ONNX graph files of a bundle or a working folder, checked when they are read."""

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
    """A graph file that is not read yet.

    label: its path, for messages. name: its file name.
    read: returns the content; called again for each engine that opens the graph, so that no copy
    of the weights stays in memory beside that of the engine.
    """

    label: str
    name: str
    read: Callable[[], bytes]

    @classmethod
    def of_bundle(cls, bundle: Bundle, tasks: tuple[str, ...], precision: Precision) -> GraphFile:
        """The graph of a task, or the one that tasks share, checked against the bundle's manifest.

        Raises UsageError for tasks or a precision that the bundle does not have.
        """
        name = bundle.graph_name(tasks, precision)
        label = printable(str(bundle.files.folder / name))
        return cls(label, name, lambda: bundle.read(name))

    @classmethod
    def of_path(cls, path: Path) -> GraphFile:
        """A file of a working folder, which has no hash to check."""
        label = printable(str(path))

        def read() -> bytes:
            try:
                return read_regular_file(path, max_bytes=MAX_FILE_BYTES)
            except OSError as error:
                raise BundleError(f"{label}: cannot be read: {error.strerror}") from error

        return cls(label, path.name, read)

    def content(self) -> bytes:
        """Content of the file. Raises BundleError unless it is ONNX without external data."""
        content = self.read()
        check_onnx(content, self.label)
        return content
