"""Training every fold, then scoring every fold; what is finished is kept."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from schemas.config.models import FoldConfig, TrainingRun
from schemas.errors import ConfigError
from schemas.io.files import atomic_path, write_atomic
from trainer.checkpoint.reader import CheckpointFiles
from trainer.crossval.curves import draw_fold_curves
from trainer.crossval.page import cross_validation_page
from trainer.crossval.results import CrossValidation, CrossValidationFiles
from trainer.crossval.scoring import FoldOutcome, combine, score_fold, tested_tasks
from trainer.evaluation.history import read_history
from trainer.training.loop import train
from trainer.training.ownership import (
    CROSS_VALIDATION,
    TRAINING,
    locked,
    refuse_foreign,
    refuse_sources,
)

log = logging.getLogger(__name__)


def cross_validate(
    config: TrainingRun, output: Path, *, folds: int, overwrite: bool = False
) -> CrossValidation:
    """Train `folds` times, each time without one fold of the training rows, and test on that fold.

    Each fold has its own checkpoint folder inside `output`. A call that was killed resumes:
    finished folds are kept, and the current one continues from its saved state. No test
    row is read before every fold is trained. Tasks that have no thresholds are trained, because the
    others share their encoder, but not tested. Writes `cross-validation.json`,
    `cross-validation.md` and `curves.png`.

    Raises ConfigError, DataError, EncoderError, CheckpointError, TrainingError, OutputError for a
    folder that is not its own, or LockedError.
    """
    if config.fold is not None:
        raise ConfigError(
            f"fold: set to {config.fold.index} of {config.fold.of}, but cross-validation sets it",
            hint="remove it from the config",
        )
    tested = tested_tasks(config)
    for name, task in config.tasks.items():
        if not tested:
            raise ConfigError(
                f"tasks.{name}: cross-validation compares the thresholds of what it trains; it is "
                f"not for tasks of kind {task.kind!r}"
            )
        if name not in tested:
            log.info("%s: has no thresholds to compare; trained, but not tested", name)
    files = CrossValidationFiles(output)
    runs = [
        config.model_copy(update={"fold": FoldConfig(index=index, of=folds)})
        for index in range(folds)
    ]
    refuse_sources(output, [config])
    refuse_foreign(output, CROSS_VALIDATION)
    for folder in files.folds():
        refuse_foreign(folder, TRAINING)
    with locked(output, CROSS_VALIDATION):
        return _cross_validate(config, files, runs, overwrite=overwrite)


def _cross_validate(
    config: TrainingRun,
    files: CrossValidationFiles,
    runs: Sequence[TrainingRun],
    *,
    overwrite: bool,
) -> CrossValidation:
    folds = len(runs)
    if overwrite and PartialState().is_main_process:
        _remove_results(files, folds)
    for index, run in enumerate(runs):
        log.info("fold %d of %d: training in %s", index + 1, folds, files.fold(index))
        train(run, files.fold(index), overwrite=overwrite)
    outcomes = []
    for index, run in enumerate(runs):
        outcomes.append(score_fold(run, files.fold(index)))
        rows = sum(outcome.facts.test_rows for outcome in outcomes[-1].values())
        log.info("fold %d of %d: %d test rows scored", index + 1, folds, rows)
    found = _combined(config, outcomes)
    if PartialState().is_main_process:
        _write(files, found)
    return found


def _remove_results(files: CrossValidationFiles, folds: int) -> None:
    """Remove the results of an older run, and its folds beyond the number that there will be."""
    for stale in (files.results, files.page, files.curves):
        stale.unlink(missing_ok=True)
    kept = {files.fold(index) for index in range(folds)}
    for folder in set(files.folds()) - kept:
        shutil.rmtree(folder)


def _combined(config: TrainingRun, outcomes: list[dict[str, FoldOutcome]]) -> CrossValidation:
    return CrossValidation(
        config_sha256=config.sha256(),
        encoder=config.encoder.source,
        seed=config.seed,
        folds=len(outcomes),
        tasks={
            name: combine([fold[name] for fold in outcomes], decision.thresholds)
            for name, decision in tested_tasks(config).items()
        },
    )


def _write(files: CrossValidationFiles, found: CrossValidation) -> None:
    histories = [
        read_history(CheckpointFiles(files.fold(index)).history) for index in range(found.folds)
    ]
    with atomic_path(files.curves) as temporary:
        draw_fold_curves(histories, temporary)
    write_atomic(files.page, cross_validation_page(found))
    write_atomic(files.results, found.model_dump_json(indent=1))
