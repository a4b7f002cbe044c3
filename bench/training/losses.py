"""Every loss on Reuters-21578, under one budget, in one table: `make bench-losses`.

Runs are named by what they are, and a finished one leaves a row in the results file: the same
command goes on where it stopped. The test stories are read when a run has ended, to score it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from accelerate import Accelerator

from bench.flops import measure_peak, training_mflops_a_token
from bench.paths import PAGES, RESULTS
from bench.training.baselines import BaselineName, FittedBaseline, fit
from bench.training.losses_page import Machine, Results, Row, Schedule, write_page
from bench.training.reuters import CONFIG, topics
from schemas.arrays import BoolArray, Float32Array
from schemas.config import TrainingRun, load_config
from schemas.decision.decide import Calibration, calibrate, decide
from schemas.decision.thresholds import ThresholdRule, find_thresholds, held_out_decisions
from schemas.durations import parse_duration
from schemas.io.files import write_atomic
from schemas.tasks.task import label_matrix
from schemas.text.model_text import Article, model_text
from schemas.text.tokens import TextTokenizer
from trainer.checkpoint.reader import Checkpoint, CheckpointFiles
from trainer.data.dataset import TokenizedRows, load_rows
from trainer.data.readers.reuters import read_stories
from trainer.evaluation.held_out import predict
from trainer.evaluation.history import History
from trainer.evaluation.scores import Evaluation, evaluate
from trainer.training.loop import train

log = logging.getLogger(__name__)

TASK = "topics"
PLAN = Path(__file__).with_name("losses.toml")


@dataclass(frozen=True)
class Planned:
    """One run. after: the run whose checkpoint it starts from."""

    name: str
    schedule: Schedule
    seed: int
    overrides: tuple[str, ...]
    after: Path | None = None

    @property
    def folder(self) -> str:
        """Name of its checkpoint folder."""
        words = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        return f"{self.schedule}-{words}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """`losses.toml`. base: set in every run but the recipe. overrides: in the spot check's runs."""

    seeds: tuple[int, ...]
    baselines: tuple[BaselineName, ...]
    deferred: tuple[str, ...]
    warmup: tuple[str, ...]
    after: tuple[str, ...]
    whole: tuple[str, ...]
    best: int
    variants: tuple[tuple[str, tuple[str, ...]], ...]
    base: tuple[str, ...]
    overrides: tuple[str, ...] = ()

    @classmethod
    def read(cls, *, fast: bool) -> Plan:
        """Read the plan, or its spot check."""
        stored = tomllib.loads(PLAN.read_text(encoding="utf-8"))
        short = stored["fast"]
        chosen = {**stored, **short} if fast else stored
        return cls(
            seeds=tuple(chosen["seeds"]),
            baselines=tuple(chosen["baselines"]),
            deferred=tuple(short["losses"] if fast else stored["deferred"]["losses"]),
            warmup=tuple(stored["deferred"]["warmup"]),
            after=tuple(stored["deferred"]["after"]),
            whole=tuple(stored["whole"]["losses"]),
            best=short["best"] if fast else stored["whole"]["best"],
            variants=()
            if fast
            else tuple((each["name"], tuple(each["set"])) for each in stored["variants"]),
            base=tuple(stored["set"]),
            overrides=tuple(short["set"]) if fast else (),
        )


class Bench:
    """The runs and their rows."""

    def __init__(self, sgml: Path, work: Path, results: Path, *, fast: bool) -> None:
        self.sgml, self.work, self.path = sgml, work, results
        self.plan = Plan.read(fast=fast)
        self.results = Results.read(results)

    def config(self, planned: Planned) -> TrainingRun:
        """The whole config of a run."""
        own = [f"tasks.{TASK}.data.0.path={self.sgml}", f"seed={planned.seed}"]
        if planned.schedule != "recipe":
            own += self.plan.base
        own += planned.overrides
        if planned.after is not None:
            own.append(f"encoder.start_from={planned.after.absolute()}")
        return load_config(CONFIG, [*own, *self.plan.overrides])

    def recipe(self, planned: Planned) -> str:
        """Hash of what decides the run's result: every value that is set, but where files are."""
        told = self.config(planned).model_dump_json(exclude_unset=True)
        warmup = self.plan.warmup if planned.after else ()
        for folder in (self.sgml, self.work.absolute()):
            told = told.replace(str(folder), "")
        return hashlib.sha256(repr((told, warmup)).encode()).hexdigest()[:12]

    def done(self, planned: Planned) -> Row | None:
        """The row of a run that is finished, if it is."""
        return self.results.find(planned.schedule, planned.name, planned.seed, self.recipe(planned))

    def train(self, planned: Planned) -> CheckpointFiles:
        """Train a run, or go on with it."""
        log.info("== %s, %s, seed %d", planned.schedule, planned.name, planned.seed)
        return train(self.config(planned), self.work / planned.folder)

    def finish(self, planned: Planned, *, before_minutes: float = 0.0) -> Row:
        """Train a run and add its row."""
        found = self.done(planned)
        if found is not None:
            log.info("== %s, %s, seed %d: done", planned.schedule, planned.name, planned.seed)
            return found
        files = self.train(planned)
        history = _history(files)
        row = self.score(planned, files, history, before_minutes + _minutes(history))
        self.add(row)
        return row

    def add(self, row: Row) -> None:
        """Keep a finished row."""
        self.write(self.results.with_row(row))

    def write(self, results: Results) -> None:
        """Replace the results file."""
        self.results = results
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, results.model_dump_json(indent=1) + "\n")

    def score(
        self, planned: Planned, files: CheckpointFiles, history: History, minutes: float
    ) -> Row:
        """Thresholds from the held-out rows, and scores of the test stories at them."""
        checkpoint = Checkpoint.open(files.folder)
        articles, gold = checkpoint.heldout(TASK)
        about = checkpoint.info.tasks[TASK]
        heldout, found = _evaluate(
            partial(_probabilities, checkpoint),
            (articles, gold),
            self.sgml,
            positives=about.training.positives,
        )
        seconds = sum(epoch.seconds for epoch in history.epochs)
        best = history.best
        assert best is not None
        return Row.of(
            found,
            heldout=heldout,
            name=planned.name,
            schedule=planned.schedule,
            seed=planned.seed,
            recipe=self.recipe(planned),
            minutes=minutes,
            cores=torch.get_num_threads(),
            best_epoch=best.epoch,
            articles_per_s=sum(e.articles_per_s * e.seconds for e in history.epochs) / seconds,
            tokens_per_s=sum(e.tokens_per_s * e.seconds for e in history.epochs) / seconds,
        )


def _evaluate(
    score: Callable[[Sequence[Article]], Float32Array],
    heldout: tuple[Sequence[Article], BoolArray],
    sgml: Path,
    *,
    positives: Sequence[int],
) -> tuple[Evaluation, Evaluation]:
    """Evaluate on the held-out rows, choose thresholds on them, and only then read the test rows.

    score: gives articles their probabilities, (rows, labels). heldout: articles and gold labels.
    Returns both evaluations.
    """
    articles, gold = heldout
    probabilities = score(articles)
    honest = held_out_decisions(probabilities, gold, ThresholdRule())
    before = evaluate(
        gold, probabilities, honest, labels=topics(), positives=positives, resamples=0
    )
    thresholds = find_thresholds(probabilities, gold)
    test_articles, test_gold = test_rows(sgml)
    scored = score(test_articles)
    decided = decide(scored, thresholds)
    return before, evaluate(test_gold, scored, decided, labels=topics(), positives=positives)


def test_rows(sgml: Path) -> tuple[list[Article], BoolArray]:
    """The 3,019 test stories with at least one of the 90 topics."""
    known = set(topics())
    stories = [s for s in read_stories(sgml, "TEST") if known.intersection(s.topics)]
    gold = [[topic for topic in story.topics if topic in known] for story in stories]
    return [Article(story.text) for story in stories], label_matrix(gold, topics(), source="test")


def _probabilities(checkpoint: Checkpoint, articles: Sequence[Article]) -> Float32Array:
    """Sigmoids of the logits in fp32, as they are exported; (rows, labels)."""
    about, max_tokens = checkpoint.info.tasks[TASK], checkpoint.info.max_tokens
    tokenizer = TextTokenizer(checkpoint.tokenizer, max_tokens=max_tokens)
    texts = [model_text(article, about.text, max_tokens=max_tokens) for article in articles]
    no_labels = np.zeros((len(texts), len(about.labels)), dtype=np.bool_)
    logits = predict(
        checkpoint.model,
        TASK,
        TokenizedRows(list(tokenizer.encode(texts)), no_labels),
        pad_id=checkpoint.info.pad_id,
        max_tokens=checkpoint.info.max_tokens,
        bf16=False,
        accelerator=Accelerator(),
    )
    return calibrate(logits, Calibration.none(len(about.labels)))


def _warm_up(bench: Bench, seed: int) -> Planned:
    return Planned("warm-up", "deferred", seed, bench.plan.warmup)


def _deferred(bench: Bench, seed: int) -> list[Planned]:
    """Every loss after a common warm-up."""
    start = bench.work / _warm_up(bench, seed).folder
    return [
        Planned(
            loss,
            "deferred",
            seed,
            (f"tasks.{TASK}.loss.name={loss}", *bench.plan.after),
            after=start,
        )
        for loss in bench.plan.deferred
    ]


def _whole(bench: Bench, seed: int, deferred: Sequence[Row]) -> list[Planned]:
    """BCE and the best losses of the deferred runs, by their held-out rows."""
    ranked = sorted(deferred, key=lambda row: -(row.heldout_micro + row.heldout_macro))
    others = [row.loss for row in ranked if row.loss not in bench.plan.whole]
    return [
        Planned(loss, "whole", seed, (f"tasks.{TASK}.loss.name={loss}",))
        for loss in [*bench.plan.whole, *others[: bench.plan.best]]
    ]


def _run_seed(bench: Bench, seed: int, *, time_is_up: Callable[[], bool]) -> bool:
    """All the runs of a seed, variants with the first one; false if the time ran out."""
    planned = _deferred(bench, seed)
    warm_minutes = 0.0
    if any(bench.done(each) is None for each in planned):
        warm_minutes = _minutes(_history(bench.train(_warm_up(bench, seed))))
    rows = []
    for each in planned:
        if time_is_up():
            return False
        rows.append(bench.finish(each, before_minutes=warm_minutes))
    variants = [
        Planned(name, "variant", seed, overrides)
        for name, overrides in bench.plan.variants
        if seed == bench.plan.seeds[0]
    ]
    recipe = Planned(
        bench.config(Planned("", "recipe", seed, ())).tasks[TASK].loss.name, "recipe", seed, ()
    )
    for each in [recipe, *_whole(bench, seed, rows), *variants]:
        if time_is_up():
            return False
        bench.finish(each)
    return True


def _history(files: CheckpointFiles) -> History:
    return History.model_validate_json(files.history.read_text(encoding="utf-8"))


def _minutes(history: History) -> float:
    return sum(epoch.seconds for epoch in history.epochs) / 60


def _baselines(bench: Bench, seed: int) -> None:
    """TF-IDF with classical classifiers, on the rows of the neural runs."""
    planned = Planned("", "baseline", seed, ())
    config = bench.config(planned)
    recipe = bench.recipe(planned)
    wanted = [
        name
        for name in bench.plan.baselines
        if bench.results.find("baseline", name, seed, recipe) is None
    ]
    if not wanted:
        return
    train_rows, heldout_rows = load_rows(TASK, config)
    labels = topics()
    gold = label_matrix(list(train_rows.gold), labels, source="train")
    heldout_gold = label_matrix(list(heldout_rows.gold), labels, source="held out")
    for name in wanted:
        log.info("== baseline, %s, seed %d", name, seed)
        fitted = fit(name, [article.text or "" for article in train_rows.articles], gold, seed=seed)
        heldout, found = _evaluate(
            partial(_score_texts, fitted),
            (heldout_rows.articles, heldout_gold),
            bench.sgml,
            positives=gold.sum(axis=0).tolist(),
        )
        bench.add(
            Row.of(
                found,
                heldout=heldout,
                name=name,
                schedule="baseline",
                seed=seed,
                recipe=recipe,
                minutes=fitted.seconds / 60,
                cores=torch.get_num_threads(),
            )
        )


def _score_texts(fitted: FittedBaseline, articles: Sequence[Article]) -> Float32Array:
    return fitted.score([article.text or "" for article in articles])


def _machine(config: TrainingRun) -> Machine:
    cpu = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    )
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        bf16_peak_gflops=round(measure_peak(torch.bfloat16)),
        training_mflops_a_token=round(
            training_mflops_a_token(config, TASK, labels=len(topics()), rows=16, seq=100), 1
        ),
    )


@click.command(help=__doc__)
@click.argument("sgml", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--work", type=click.Path(path_type=Path), default=Path("artifacts/bench-losses"))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "reuters.json")
@click.option("--page", type=click.Path(path_type=Path), default=PAGES / "reuters.md")
@click.option("--budget", help="Start no further run after this long, as in 90m.")
@click.option("--fast", is_flag=True, help="A spot check: few losses, one epoch of 32 tokens.")
def main(sgml: Path, work: Path, results: Path, page: Path, budget: str | None, fast: bool) -> None:
    """Train, score, write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    try:
        seconds = float("inf") if budget is None else parse_duration(budget)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--budget") from error
    ends = time.monotonic() + seconds
    bench = Bench(sgml, work, results, fast=fast)
    if bench.results.machine is None:
        config = bench.config(Planned("", "whole", bench.plan.seeds[0], ()))
        bench.write(bench.results.model_copy(update={"machine": _machine(config)}))
    if all(
        _run_seed(bench, seed, time_is_up=lambda: time.monotonic() > ends)
        for seed in bench.plan.seeds
    ):
        _baselines(bench, bench.plan.seeds[0])
    else:
        log.info("the budget is used up; the same command goes on")
    write_page(bench.results, page)
    click.echo(f"{results}: {len(bench.results.rows)} rows; {page}")


if __name__ == "__main__":
    main()
