"""What tests of the exporter do again and again."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from batch.machine.device import choose_device
from batch.scoring.scorer import Scorer, open_scorer
from exporter.cli import main
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import Precision


def export_classifier(*arguments: str | Path) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def folder_contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def scorer_of(
    bundle: Path, task: str = "narrative", precision: Precision = "fp32", *, threads: int = 0
) -> Scorer:
    """A task in a precision, opened the way `batch-classify` does."""
    device = choose_device("cpu")
    return open_scorer(Bundle.open(bundle), (task,), device, precision=precision, threads=threads)
