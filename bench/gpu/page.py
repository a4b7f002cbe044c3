"""docs/benchmarks/gpu.md, made of the facts of the steps."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "gpu.md"


def write_page(results: Path, page: Path) -> None:
    """Write the page. Raises OSError if there are no results."""
    page.write_text(results.read_text())
