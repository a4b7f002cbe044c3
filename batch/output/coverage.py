"""Coverage of a run's inputs by chunks: every row once, in order."""

from __future__ import annotations

from batch.corpus.plan import Chunk
from batch.output.identity import RunIdentity
from batch.output.marker import ChunkAddress


class Coverage:
    """Rows of a run's inputs that chunks stand for, added in the order of the chunks."""

    def __init__(self, identity: RunIdentity) -> None:
        self._identity = identity
        self._file = self._row = self._chunks = 0
        self._skip_finished_files()

    def add(self, chunk: ChunkAddress) -> None:
        """Add the next chunk. Raises ValueError unless it begins where the one before it ended."""
        inputs = self._identity.inputs
        if self._file == len(inputs) and self._chunks > 0:
            raise ValueError(f"it is of {_rows(chunk)}, and all rows have their chunk")
        file = self._file % len(inputs)  # a corpus without rows has one chunk, of the first file
        expected = self._identity.address(Chunk(self._chunks, file, self._row, chunk.rows))
        if chunk != expected:
            raise ValueError(f"it is of {_rows(chunk)}, expected {_rows(expected)}")
        if self._row + chunk.rows > inputs[file].rows:
            raise ValueError(f"it is of {_rows(chunk)}, the file has {inputs[file].rows}")
        self._chunks += 1
        self._row += chunk.rows
        self._skip_finished_files()

    def missing(self) -> str | None:
        """The first rows that no chunk stands for, or None."""
        inputs = self._identity.inputs
        if self._file == len(inputs):
            return None
        return f"{inputs[self._file].file} from row {self._row} on"

    def _skip_finished_files(self) -> None:
        inputs = self._identity.inputs
        while self._file < len(inputs) and self._row == inputs[self._file].rows:
            self._file, self._row = self._file + 1, 0


def _rows(chunk: ChunkAddress) -> str:
    return f"{chunk.rows} rows of {chunk.source_file} from row {chunk.first_row} on"
