"""All losses on Reuters-21578 with the same budget, in one table: `make bench-losses`.

A finished run is a row of the results file, so that the same command resumes an interrupted
benchmark. The test stories are read only to score a finished run.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

from bench.flops import measure_peak, training_mflops_per_token
from bench.paths import PAGES, RESULTS
from bench.training.baselines import BaselineName, fit
from bench.training.evaluation import (
    baseline_scorer,
    checkpoint_scorer,
    evaluate_scorer,
    heldout_probabilities,
)
from bench.training.losses_page import Machine, Results, Row, write_page
from bench.training.plan import TASK, Plan, PlannedRun
from bench.training.reuters import CONFIG, topics
from bench.training.trained_task import TrainedTask
from schemas.cli.types import Duration
from schemas.config.files import load_config
from schemas.config.models import TrainingRun
from schemas.io.files import write_atomic
from schemas.tasks.task import label_matrix
from trainer.checkpoint.reader import Checkpoint, CheckpointFiles
from trainer.data.dataset import load_rows
from trainer.evaluation.history import History
from trainer.kinds import TRAINER_KINDS
from trainer.training.loop import train

log = logging.getLogger(__name__)


class LossBenchmark:
    """Training runs of a plan, and the results file with their rows."""

    def __init__(self, sgml: Path, work: Path, results: Path, *, fast: bool) -> None:
        self.sgml, self.work, self.path = sgml, work, results
        self.plan = Plan.read(fast=fast)
        self.results = Results.read(results)

    def config(self, run: PlannedRun) -> TrainingRun:
        """The complete config of a run."""
        overrides = [f"tasks.{TASK}.data.0.path={self.sgml}", f"seed={run.seed}"]
        if run.schedule != "recipe":
            overrides += self.plan.base
        overrides += run.overrides
        if run.start_from is not None:
            overrides.append(f"encoder.start_from={run.start_from.absolute()}")
        return load_config(CONFIG, [*overrides, *self.plan.overrides])

    def recipe_hash(self, run: PlannedRun) -> str:
        """Hash of every value that affects the result of a run; paths are left out."""
        config = self.config(run).model_dump_json(exclude_unset=True)
        warmup = self.plan.warmup if run.start_from else ()
        for folder in (self.sgml, self.work.absolute()):
            config = config.replace(str(folder), "")
        return hashlib.sha256(repr((config, warmup)).encode()).hexdigest()[:12]

    def finished_row(self, run: PlannedRun) -> Row | None:
        """The row of a run, or None if it is not finished."""
        return self.results.find(run.schedule, run.name, run.seed, self.recipe_hash(run))

    def train(self, run: PlannedRun) -> CheckpointFiles:
        """Train a run, or resume its training."""
        log.info("== %s, %s, seed %d", run.schedule, run.name, run.seed)
        return train(self.config(run), self.work / run.folder)

    def finish(self, run: PlannedRun, *, warmup_minutes: float = 0.0) -> Row:
        """Train and score a run, unless it is finished; returns its row."""
        row = self.finished_row(run)
        if row is not None:
            log.info("== %s, %s, seed %d: done", run.schedule, run.name, run.seed)
            return row
        row = self._score(run, self.train(run), warmup_minutes)
        self.write(self.results.with_row(row))
        return row

    def write(self, results: Results) -> None:
        """Replace the results file."""
        self.results = results
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, results.model_dump_json(indent=1) + "\n")

    def run_seed(self, seed: int, *, out_of_time: Callable[[], bool]) -> bool:
        """All runs of a seed; false if the budget is exceeded."""
        deferred = self.plan.deferred_runs(seed, self.work)
        warmup_minutes = 0.0
        if any(self.finished_row(run) is None for run in deferred):
            warmup_minutes = _minutes(_history(self.train(self.plan.warmup_run(seed))))
        rows = []
        for run in deferred:
            if out_of_time():
                return False
            rows.append(self.finish(run, warmup_minutes=warmup_minutes))
        ranked = sorted(rows, key=lambda row: -(row.heldout_micro + row.heldout_macro))
        recipe = self.config(PlannedRun("", "recipe", seed)).tasks[TASK]
        objective = TRAINER_KINDS[recipe.kind].objective(recipe)
        assert objective is not None
        recipe_loss = objective.loss_name(recipe)
        for run in [
            PlannedRun(recipe_loss, "recipe", seed),
            *self.plan.whole_runs(seed, [row.loss for row in ranked]),
            *self.plan.variant_runs(seed),
        ]:
            if out_of_time():
                return False
            self.finish(run)
        return True

    def run_baselines(self, seed: int) -> None:
        """Classical classifiers over TF-IDF, on the rows of the neural runs."""
        run = PlannedRun("", "baseline", seed)
        recipe = self.recipe_hash(run)
        missing = [
            name
            for name in self.plan.baselines
            if self.results.find("baseline", name, seed, recipe) is None
        ]
        for name in missing:
            log.info("== baseline, %s, seed %d", name, seed)
            self.write(self.results.with_row(self._score_baseline(name, run, recipe)))

    def _score(self, run: PlannedRun, files: CheckpointFiles, warmup_minutes: float) -> Row:
        checkpoint, history = Checkpoint.open(files.folder), _history(files)
        model, (_, gold) = TrainedTask(checkpoint, TASK), checkpoint.heldout(TASK)
        heldout_gold = label_matrix(gold, model.facts.labels, source="held out")
        evaluations = evaluate_scorer(
            checkpoint_scorer(model),
            (heldout_probabilities(model), heldout_gold),
            self.sgml,
            positives=checkpoint.info.tasks[TASK].training.positives,
        )
        seconds = sum(epoch.seconds for epoch in history.epochs)
        best = history.best
        assert best is not None
        return Row.of(
            evaluations.test,
            heldout=evaluations.heldout,
            name=run.name,
            schedule=run.schedule,
            seed=run.seed,
            recipe=self.recipe_hash(run),
            minutes=warmup_minutes + _minutes(history),
            cores=torch.get_num_threads(),
            best_epoch=best.epoch,
            articles_per_s=sum(e.articles_per_s * e.seconds for e in history.epochs) / seconds,
            tokens_per_s=sum(e.tokens_per_s * e.seconds for e in history.epochs) / seconds,
        )

    def _score_baseline(self, name: BaselineName, run: PlannedRun, recipe: str) -> Row:
        train_rows, heldout_rows = load_rows(self.config(run), TASK)
        gold = label_matrix(list(train_rows.gold), topics(), source="train")
        heldout_gold = label_matrix(list(heldout_rows.gold), topics(), source="held out")
        texts = [article.text or "" for article in train_rows.articles]
        fitted = fit(name, texts, gold, seed=run.seed)
        score = baseline_scorer(fitted)
        evaluations = evaluate_scorer(
            score,
            (score(heldout_rows.articles), heldout_gold),
            self.sgml,
            positives=gold.sum(axis=0).tolist(),
        )
        return Row.of(
            evaluations.test,
            heldout=evaluations.heldout,
            name=name,
            schedule="baseline",
            seed=run.seed,
            recipe=recipe,
            minutes=fitted.seconds / 60,
            cores=torch.get_num_threads(),
        )


def _history(files: CheckpointFiles) -> History:
    return History.model_validate_json(files.history.read_text(encoding="utf-8"))


def _minutes(history: History) -> float:
    return sum(epoch.seconds for epoch in history.epochs) / 60


def _measure_machine(config: TrainingRun) -> Machine:
    cpu = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    )
    mflops = training_mflops_per_token(config, TASK, labels=len(topics()), rows=16, seq=100)
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        bf16_peak_gflops=round(measure_peak(torch.bfloat16)),
        training_mflops_per_token=round(mflops, 1),
    )


@click.command(help=__doc__)
@click.argument("sgml", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--work", type=click.Path(path_type=Path), default=Path("artifacts/bench-losses"))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "reuters.json")
@click.option("--page", type=click.Path(path_type=Path), default=PAGES / "reuters.md")
@click.option("--budget", type=Duration(), help="Start no run after this time, as in 90m.")
@click.option("--fast", is_flag=True, help="A spot check: few losses, one epoch of 32 tokens.")
def main(
    sgml: Path, work: Path, results: Path, page: Path, budget: float | None, fast: bool
) -> None:
    """Train and score all runs, write the page."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    deadline = time.monotonic() + (float("inf") if budget is None else budget)
    benchmark = LossBenchmark(sgml, work, results, fast=fast)
    first_seed = benchmark.plan.seeds[0]
    if benchmark.results.machine is None:
        machine = _measure_machine(benchmark.config(PlannedRun("", "whole", first_seed)))
        benchmark.write(benchmark.results.model_copy(update={"machine": machine}))
    if all(
        benchmark.run_seed(seed, out_of_time=lambda: time.monotonic() > deadline)
        for seed in benchmark.plan.seeds
    ):
        benchmark.run_baselines(first_seed)
    else:
        log.info("the budget is used up; the same command resumes the benchmark")
    write_page(benchmark.results, page)
    click.echo(f"{results}: {len(benchmark.results.rows)} rows; {page}")


if __name__ == "__main__":
    main()
