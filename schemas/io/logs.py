"""Log lines on stderr, in which text from outside can neither start a line nor move a cursor."""

from __future__ import annotations

import logging

from schemas.printable import printable_lines


class PrintableFormatter(logging.Formatter):
    """The message of a record and nothing else, printable."""

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
