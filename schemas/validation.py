"""Problems that pydantic reports, as text for a message."""

from __future__ import annotations

from pydantic import ValidationError

from schemas.printable import printable

MAX_PROBLEMS, MAX_PROBLEM_CHARS = 12, 300
"""Problems of a file that a message lists, and characters of each."""


def validation_problems(error: ValidationError, whole: str) -> str:
    """The first problems that pydantic names, with their keys; `whole` is that of the document."""
    problems = [
        printable(f"{'.'.join(map(str, problem['loc'])) or whole}: {problem['msg']}")[
            :MAX_PROBLEM_CHARS
        ]
        for problem in error.errors()
    ]
    more = len(problems) - MAX_PROBLEMS
    return "; ".join([*problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])
