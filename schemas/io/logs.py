"""Log lines on stderr, in which untrusted text cannot start a line or move the cursor."""

from __future__ import annotations

import logging

from schemas.printable import printable_lines


class PrintableFormatter(logging.Formatter):
    """Formats a record as its message only, printable."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, with a traceback below it if there is one, as printable lines."""
        return printable_lines(super().format(record))


def set_up_logging() -> None:
    """Write records from INFO on, and warnings of libraries, to stderr.

    Does nothing where the root logger has a handler.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
