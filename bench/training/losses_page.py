"""Results of `bench.training.losses`, their page and chart."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from schemas.markdown import markdown_table
from trainer.evaluation.scores import Evaluation

Schedule = Literal["recipe", "deferred", "whole", "variant", "baseline"]
PUBLISHED = {"bce": 89.14, "db": 90.62, "ntr-fl": 90.70, "cb-ntr": 90.74}
"""Micro-F1 in percent with bert-base, Huang et al. 2021, table 2."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Record):
    """A run, scored on the test stories with thresholds from its held-out rows.

    F1 in [0, 1]. head, medium, tail: macro-F1 of the labels of that frequency band. single, multi:
    micro-F1 of the stories with one topic and with several. heldout_micro, heldout_macro: on the
    held-out rows, decided with thresholds chosen without the row. minutes: training steps, warm-up
    included, on `cores` cores. recipe: hash of the config.
    """

    loss: str
    schedule: Schedule
    seed: int
    recipe: str
    micro: float
    macro: float
    head: float
    medium: float
    tail: float
    single: float
    multi: float
    precision: float
    recall: float
    exact_match: float
    micro_low: float
    micro_high: float
    macro_low: float
    macro_high: float
    average_precision: float
    heldout_micro: float
    heldout_macro: float
    minutes: float
    cores: int
    best_epoch: int | None = None
    articles_per_s: float | None = None
    tokens_per_s: float | None = None

    @classmethod
    def of(
        cls,
        test: Evaluation,
        *,
        heldout: Evaluation,
        name: str,
        schedule: Schedule,
        seed: int,
        recipe: str,
        minutes: float,
        cores: int,
        best_epoch: int | None = None,
        articles_per_s: float | None = None,
        tokens_per_s: float | None = None,
    ) -> Self:
        """Extract the numbers of the table from the evaluations, rounded."""
        head, medium, tail = (band.macro_f1 or 0.0 for band in test.bands.values())
        micro, macro = test.intervals.micro_f1, test.intervals.macro_f1
        assert micro is not None
        assert macro is not None
        numbers = {
            "micro": test.overall.micro_f1,
            "macro": test.overall.macro_f1,
            "head": head,
            "medium": medium,
            "tail": tail,
            "single": test.by_gold_labels["one"].micro_f1,
            "multi": test.by_gold_labels["several"].micro_f1,
            "precision": test.overall.precision,
            "recall": test.overall.recall,
            "exact_match": test.overall.exact_match,
            "micro_low": micro.low,
            "micro_high": micro.high,
            "macro_low": macro.low,
            "macro_high": macro.high,
            "average_precision": test.ranking.micro_average_precision or 0.0,
            "heldout_micro": heldout.overall.micro_f1,
            "heldout_macro": heldout.overall.macro_f1,
        }
        return cls(
            loss=name,
            schedule=schedule,
            seed=seed,
            recipe=recipe,
            minutes=round(minutes, 1),
            cores=cores,
            best_epoch=best_epoch,
            articles_per_s=articles_per_s and round(articles_per_s, 1),
            tokens_per_s=tokens_per_s and round(tokens_per_s),
            **{key: round(value, 4) for key, value in numbers.items()},
        )


class Machine(_Record):
    """The machine on which the rows were measured."""

    cpu: str
    cores: int
    bf16_peak_gflops: float
    training_mflops_per_token: float


class Results(_Record):
    """`bench/results/reuters.json`."""

    rows: tuple[Row, ...] = ()
    published_micro: dict[str, float] = PUBLISHED
    machine: Machine | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; empty results if it does not exist."""
        if not path.exists():
            return cls()
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def find(self, schedule: str, loss: str, seed: int, recipe: str) -> Row | None:
        """The row of a finished run."""
        key = (schedule, loss, seed, recipe)
        return next((row for row in self.rows if _key(row) == key), None)

    def with_row(self, row: Row) -> Self:
        """Add a row; it replaces the row of the same run with another recipe."""
        others = [other for other in self.rows if _key(other)[:3] != _key(row)[:3]]
        return self.model_copy(update={"rows": (*others, row)})


def _key(row: Row) -> tuple[str, str, int, str]:
    return row.schedule, row.loss, row.seed, row.recipe


HEADINGS: dict[Schedule, tuple[str, str]] = {
    "recipe": (
        "The recipe",
        "[configs/reuters.toml](../../configs/reuters.toml) as it is: what `make reuters` trains.",
    ),
    "deferred": (
        "All losses after a common warm-up",
        "Deferred re-balancing (Cao et al. 2019): a common warm-up with BCE, then the same number "
        "of epochs with every loss, from the same weights.",
    ),
    "whole": (
        "From the start",
        "The recipe with 128 tokens, randomly initialized heads and one loss: BCE, and the losses "
        "with the best held-out scores in the table above.",
    ),
    "variant": (
        "Variants",
        "A single change to the run above with the same loss, or with the loss that is named.",
    ),
    "baseline": ("Baselines", "Same stories, split, thresholds and scores."),
}


def write_page(results: Results, page: Path) -> None:
    """Write the page, and the chart next to it. Raises ValueError if there are no rows."""
    if not results.rows:
        raise ValueError(f"{page}: no rows to show")
    chart = page.with_name(f"{page.stem}-losses.png")
    sections = [_section(results, schedule, *HEADINGS[schedule]) for schedule in HEADINGS]
    text = (Path(__file__).with_name("losses_page.md")).read_text(encoding="utf-8")
    _draw(results, chart)
    page.write_text(
        text.format(
            tables="\n".join(filter(None, sections)),
            chart=chart.name,
            speed=_speed(results),
        ),
        encoding="utf-8",
    )


def _section(results: Results, schedule: Schedule, title: str, text: str) -> str:
    rows = sorted(
        (row for row in results.rows if row.schedule == schedule),
        key=lambda row: (row.seed != results.rows[0].seed, -row.macro),
    )
    if not rows:
        return ""
    headings = ["loss", "micro", "macro", "head", "medium", "tail", "one topic", "several"]
    headings += ["held-out micro", "held-out macro", "minutes", "cores", "seed", "published micro"]
    table = markdown_table(headings, [_cells(results, row) for row in rows])
    return f"## {title}\n\n{text}\n\n{table}"


def _cells(results: Results, row: Row) -> list[str]:
    scores = (row.micro, row.macro, row.head, row.medium, row.tail, row.single, row.multi)
    published = results.published_micro.get(row.loss)
    return [
        row.loss,
        *(f"{100 * value:.2f}" for value in (*scores, row.heldout_micro, row.heldout_macro)),
        f"{row.minutes:.1f}",
        str(row.cores),
        str(row.seed),
        "" if published is None else f"{published:.2f}",
    ]


def _speed(results: Results) -> str:
    """Speed of the training steps, and the share of the machine's peak that they use."""
    machine, timed = results.machine, [row for row in results.rows if row.tokens_per_s]
    if machine is None or not timed:
        return "Not measured yet."
    rates = [row.tokens_per_s for row in timed if row.tokens_per_s]
    articles = [row.articles_per_s for row in timed if row.articles_per_s]
    used = np.median(rates) * machine.training_mflops_per_token / 1e3
    return (
        f"{machine.cores} cores of {machine.cpu}. Median of {len(timed)} runs: "
        f"{np.median(articles):.0f} articles/s, {np.median(rates):,.0f} tokens/s; at "
        f"{machine.training_mflops_per_token:.0f} MFLOP per token, forward and backward, that is "
        f"{used / machine.bf16_peak_gflops:.0%} of the {machine.bf16_peak_gflops:,.0f} GFLOP/s of "
        f"a large bf16 matmul on this machine. Fastest run {max(articles):.0f} articles/s, "
        f"{max(rates):,.0f} tokens/s; slower ones shared the machine with other processes."
    )


def _draw(results: Results, path: Path) -> None:
    """Draw macro-F1 by frequency band, a line for every run of the first seed."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = [row for row in results.rows if row.seed == results.rows[0].seed]
    rows = sorted(rows, key=lambda row: row.macro)
    figure, axes = pyplot.subplots(figsize=(9, 0.32 * len(rows) + 1.4), layout="constrained")
    positions = range(len(rows))
    for band, color in (("head", "C0"), ("medium", "C1"), ("tail", "C3")):
        values = [100 * getattr(row, band) for row in rows]
        axes.plot(values, positions, "o", color=color, label=f"{band} labels")
    axes.plot(
        [100 * row.macro for row in rows], positions, "|", color="0.2", ms=14, label="all labels"
    )
    axes.set_yticks(positions, [f"{row.loss} ({row.schedule})" for row in rows])
    axes.set(xlabel="macro-F1 on the 3,019 test stories, %", xlim=(0, 100))
    axes.grid(axis="both", alpha=0.3)
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
