"""Hyperparameter search: many training runs of one config, each with other values."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from schemas.config.files import load_config
from schemas.config.models import TrainConfig, TrainingRun
from schemas.errors import ConfigError, OutputError, TrainingError, UsageError
from schemas.io.lock import lock_inside
from trainer.checkpoint.reader import CheckpointFiles
from trainer.evaluation.history import EpochRecord, History, read_history
from trainer.kinds import TRAINER_KINDS
from trainer.search.report import Outcome, SearchResult, TrialRecord, draw_search, write_report
from trainer.search.space import Dimension, check_space, parse_space
from trainer.training.loop import train
from trainer.training.ownership import SEARCH, refuse_foreign, refuse_sources
from trainer.training.run import DRAWN_EVERY_S
from trainer.training.state import StateFolder

STARTUP_TRIALS = 5
"""Random trials before the sampler uses its model, and before any trial is pruned."""
KEPT = "kept"
"""Attribute of a trial: the epoch whose weights it has."""
FIRST_PRUNED_EPOCH = 2
"""The first epoch is not conclusive, because the learning rate is still rising."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Limits of a search, over all its sessions; `budget_s` None means no time limit."""

    trials: int
    budget_s: float | None = None


class BudgetUsedUpError(Exception):
    """Ends the current trial when the time budget is used up."""


def search(
    config: Path,
    space: Sequence[str],
    output: Path,
    *,
    limits: Limits,
    overrides: Sequence[str] = (),
) -> SearchResult:
    """Search for the values with the best validation metric, and write a report.

    config: the TOML file that every trial starts from, with `overrides` ("train.epochs=3").
    space: keys and the values to try, see `trainer.search.space.GRAMMAR`.
    output: folder of the trials' training runs, the state of the search and its report.

    Values come from a tree-structured Parzen estimator (Bergstra et al., 2011). A trial that is
    worse than the median of the others after as many epochs is pruned. No trial begins that would
    probably exceed the budget, and a running trial stops at the end of the epoch in which the
    budget is used up. A search that was stopped or killed resumes when it is started again, its
    last trial included.

    Raises UsageError before any trial for values that the config does not accept, OutputError if
    the folder has another search or other files, LockedError if a search is running there, and the
    errors of training.
    """
    dimensions = parse_space(space)
    base = check_space(config, overrides, dimensions)
    if all(TRAINER_KINDS[task.kind].objective(task) is None for task in base.tasks.values()):
        raise ConfigError("tasks: none of them is trained, so that there is no metric to search by")
    refuse_sources(output, [base])
    refuse_foreign(output, SEARCH)
    with lock_inside(output, SEARCH):
        study = _open_study(output, base, space)
        return _Search(study, config, overrides, dimensions, output, base, limits).run()


def _open_study(output: Path, base: TrainingRun, space: Sequence[str]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = output / "study.jsonl"
    _truncate_journal(journal)
    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(journal))),
        pruner=MedianPruner(STARTUP_TRIALS, FIRST_PRUNED_EPOCH),
        direction="maximize",
        load_if_exists=True,
    )
    for what, ours in (("config", base.sha256()), ("space", sorted(space))):
        if study.user_attrs.get(what, ours) != ours:
            raise OutputError(
                f"{output}: contains a search with another {what}",
                hint="repeat the command as it was, or name another --output",
            )
        study.set_user_attr(what, ours)
    return study


def _truncate_journal(journal: Path) -> None:
    """Remove an incomplete last line, left by a crash, to which the storage would append."""
    if journal.exists():
        complete, newline, incomplete = journal.read_bytes().rpartition(b"\n")
        if incomplete:
            with journal.open("r+b") as file:
                file.truncate(len(complete) + len(newline))


class _Search:
    """One session of a search.

    A trial has the state `running` in the study until its result is reported. A trial in that state
    at the start of a session was killed or stopped: it is queued again under its index, and resumes
    in its folder.
    """

    def __init__(
        self,
        study: optuna.Study,
        config: Path,
        overrides: Sequence[str],
        space: Sequence[Dimension],
        output: Path,
        base: TrainingRun,
        limits: Limits,
    ) -> None:
        self.study, self.config, self.overrides = study, config, overrides
        self.space, self.output, self.base, self.limits = space, output, base, limits

    def run(self) -> SearchResult:
        self._requeue()
        drawn_at = time.monotonic()
        while self._may_start():
            self._run_trial()
            write_report(self._result(), self.output)
            if time.monotonic() - drawn_at >= DRAWN_EVERY_S:
                draw_search(self._result(), self.space, self.output)
                drawn_at = time.monotonic()
        result = self._result()
        write_report(result, self.output)
        draw_search(result, self.space, self.output)
        return result

    def _requeue(self) -> None:
        trials = self.study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
        queued = {trial.user_attrs["index"] for trial in trials if trial.state.name == "WAITING"}
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            if trial.user_attrs.get("index", -1) not in {-1, *queued}:
                self.study.enqueue_trial(trial.params, trial.user_attrs)
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _trials(self) -> list[FrozenTrial]:
        """The latest attempt at each trial, in order."""
        latest = {trial.user_attrs.get("index"): trial for trial in self.study.get_trials()}
        return [latest[index] for index in sorted(key for key in latest if key is not None)]

    def _may_start(self) -> bool:
        trials = self._trials()
        budget_s = self.limits.budget_s
        spent_s = sum(_seconds(trial) for trial in trials)
        if any(trial.state == TrialState.WAITING for trial in trials):
            return budget_s is None or spent_s < budget_s
        if len(trials) >= self.limits.trials:
            return False
        if budget_s is None:
            return True
        finished = [_seconds(trial) for trial in trials if trial.state == TrialState.COMPLETE]
        expected_s = sum(finished) / len(finished) if finished else 0.0
        if spent_s + expected_s < budget_s:
            return True
        log.info("budget: %.1f of %.1f minutes used", spent_s / 60, budget_s / 60)
        return False

    def _run_trial(self) -> None:
        trial_count = len(self._trials())
        # Seeded for each trial, so that a resumed search proposes the same values.
        self.study.sampler = TPESampler(
            n_startup_trials=STARTUP_TRIALS, seed=self.base.seed + trial_count
        )
        trial = self.study.ask()
        if "index" not in trial.user_attrs:
            trial.set_user_attr("index", trial_count)
        values = {dimension.key: dimension.suggest(trial) for dimension in self.space}
        trial.set_user_attr("values", values)
        folder = self.output / _folder(trial.user_attrs["index"])
        log.info("%s: %s", folder.name, ", ".join(f"{k} {v}" for k, v in values.items()))
        state = self._train(trial, values, folder)
        if state == "stopped":
            return
        if state == "finished":
            kept = _record(self._frozen_trial(trial)).metric
            assert kept is not None
            self.study.tell(trial, kept)
        else:
            StateFolder(CheckpointFiles(folder)).clear()
            self.study.tell(trial, state=TrialState.PRUNED)
        record = _record(self._frozen_trial(trial))
        metric = "no epoch" if record.metric is None else f"{record.metric:.4f}"
        log.info("%s: %s, %s %s", folder.name, record.state, self.base.train.metric, metric)

    def _train(self, trial: Trial, values: dict[str, str], folder: Path) -> Outcome:
        assignments = [f"{key}={value}" for key, value in values.items()]
        others_s = sum(_seconds(other) for other in self._trials()) - _seconds(
            self._frozen_trial(trial)
        )
        budget_s = self.limits.budget_s
        left_s = None if budget_s is None else budget_s - others_s
        try:
            run = load_config(self.config, [*self.overrides, *assignments])
            callback = _EpochCallback(trial, run.train, budget_s=left_s)
            callback.report_earlier(folder)
            train(run, folder, on_epoch=callback)
            callback.record_time()
        except optuna.TrialPruned:
            return "pruned"
        except BudgetUsedUpError:
            return "stopped"
        except (TrainingError, ConfigError, UsageError, torch.OutOfMemoryError) as error:
            message = " ".join(str(error).split())
            log.warning("%s: %s", folder.name, message)
            trial.set_user_attr("error", message)
            return "failed"
        return "finished"

    def _frozen_trial(self, trial: Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]

    def _result(self) -> SearchResult:
        records = [_record(trial) for trial in self._trials() if "values" in trial.user_attrs]
        return SearchResult(metric_name=self.base.train.metric, trials=tuple(records))


class _EpochCallback:
    """Reports every epoch of a trial, and ends the trial when it is pruned or out of time.

    train: of the trial. budget_s: seconds that it may take, its earlier sessions included.
    """

    def __init__(self, trial: Trial, train: TrainConfig, *, budget_s: float | None) -> None:
        self.trial, self.epochs, self.budget_s = trial, train.epochs, budget_s
        self.history = History(metric_name=train.metric)
        self.earlier_s = float(trial.user_attrs.get("seconds", 0.0))
        self.started = time.monotonic()

    def report_earlier(self, folder: Path) -> None:
        """Report the epochs of earlier sessions."""
        path = CheckpointFiles(folder).history
        if path.exists():
            for record in read_history(path).epochs:
                self._report(record)

    def __call__(self, record: EpochRecord) -> None:
        self._report(record)
        used_s = self.record_time()
        if record.epoch >= self.epochs:
            return
        if self.trial.should_prune():
            raise optuna.TrialPruned
        if self.budget_s is not None and used_s >= self.budget_s:
            raise BudgetUsedUpError

    def record_time(self) -> float:
        """Store the seconds that the trial has taken so far, and return them."""
        used_s = self.earlier_s + time.monotonic() - self.started
        self.trial.set_user_attr("seconds", used_s)
        return used_s

    def _report(self, record: EpochRecord) -> None:
        if record.epoch > len(self.history.epochs):
            self.trial.report(record.metric, record.epoch)
            self.history.epochs.append(record)
            assert self.history.best is not None
            self.trial.set_user_attr(KEPT, self.history.best.epoch)


def _record(trial: FrozenTrial) -> TrialRecord:
    by_epoch = trial.intermediate_values
    kept: int | None = trial.user_attrs.get(KEPT)
    if kept not in by_epoch:  # a trial that is queued again has not reported yet
        kept = None
    error = trial.user_attrs.get("error")
    state: Outcome = "stopped"
    if trial.state == TrialState.COMPLETE:
        state = "finished"
    elif trial.state == TrialState.PRUNED:
        state = "pruned" if error is None else "failed"
    return TrialRecord(
        folder=_folder(trial.user_attrs["index"]),
        values=trial.user_attrs["values"],
        state=state,
        metric=None if kept is None else by_epoch[kept],
        best_epoch=kept,
        epochs=len(by_epoch),
        seconds=_seconds(trial),
        error=error,
    )


def _folder(index: int) -> str:
    return f"trial-{index:03d}"


def _seconds(trial: FrozenTrial) -> float:
    return float(trial.user_attrs.get("seconds", 0.0))
