"""Results of `bench.scoring.throughput`, their page and chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Self

from pydantic import BaseModel, ConfigDict

from bench.scoring.machine import Machine
from schemas.bundle.facts import VariantCost
from schemas.markdown import markdown_table

NAMES = {
    "pipeline": "transformers.pipeline, fp32, 32 texts",
    "torch-sorted": "torch fp32, sorted",
    "fp32": "narrascan fp32",
    "bf16": "narrascan bf16",
    "int8": "narrascan int8",
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackendResult(_Record):
    """Results of a backend. Ratios and speed are medians over the rounds.

    ratio_pipeline, ratio_torch_sorted: tokens/s divided by those of the peer in the same round.
    share_of_peak: of the GFLOP/s of a large matmul in that precision. output_error_max,
    output_error_mean, articles_changed: against fp32 on the held-out texts of the model; None for
    fp32 and the peers.
    """

    ratio_pipeline: float
    ratio_torch_sorted: float
    tokens_per_s: float
    share_of_peak: float
    peak_rss_mb: float
    output_error_max: float | None
    output_error_mean: float | None
    articles_changed: float | None
    ratio_pipeline_range: tuple[float, float]

    @classmethod
    def of(
        cls,
        speeds: Mapping[str, Sequence[float]],
        name: str,
        *,
        peak_rss_mb: float,
        share_of_peak: float,
        cost: VariantCost | None,
    ) -> Self:
        """Summarize the rounds of a backend. speeds: tokens/s of all backends in every round."""
        ratios = {
            peer: [own / other for own, other in zip(speeds[name], speeds[peer], strict=True)]
            for peer in ("pipeline", "torch-sorted")
        }
        pipeline_ratios = ratios["pipeline"]
        return cls(
            ratio_pipeline=round(median(pipeline_ratios), 2),
            ratio_torch_sorted=round(median(ratios["torch-sorted"]), 2),
            tokens_per_s=round(median(speeds[name])),
            share_of_peak=round(share_of_peak, 3),
            peak_rss_mb=round(peak_rss_mb),
            output_error_max=None if cost is None else round(cost.output_error_max, 5),
            output_error_mean=None if cost is None else round(cost.output_error_mean, 7),
            articles_changed=None if cost is None else round(cost.changed_articles, 5),
            ratio_pipeline_range=(round(min(pipeline_ratios), 2), round(max(pipeline_ratios), 2)),
        )


class Results(_Record):
    """`bench/results/throughput.json`; backends by name."""

    news: dict[str, BackendResult]
    long: dict[str, BackendResult]
    machine: Machine
    model: str
    texts: dict[str, int]
    mean_tokens: dict[str, int]
    rounds: int

    @property
    def corpora(self) -> dict[str, dict[str, BackendResult]]:
        """Backends by corpus."""
        return {"news": self.news, "long": self.long}


def write_page(results: Results, page: Path) -> None:
    """Write the page with its tables, and the chart next to it."""
    chart = page.with_suffix(".png")
    page.parent.mkdir(parents=True, exist_ok=True)
    _draw(results, chart)
    peaks = ", ".join(
        f"{precision} {gflops:,.0f} GFLOP/s" for precision, gflops in results.machine.peaks.items()
    )
    sections = [
        f"## {name.capitalize()}: {results.texts[name]:,} texts, {results.mean_tokens[name]} "
        f"tokens on average\n\n{_table(backends)}"
        for name, backends in results.corpora.items()
    ]
    page.write_text(
        "\n".join(
            [
                "# Throughput of scoring on a CPU",
                "",
                "`make bench` wrote this page. Measured is the time from texts to probabilities, "
                "tokenizing included. Backends run in",
                "separate processes and take turns. Lengths are log-normal, truncated at 512 "
                "tokens: news with a median of 108 words",
                "and a 95th percentile of 474, long articles with 346 and 892; the words are those "
                "of `samples/`.",
                f"Results are medians of {results.rounds} rounds, with the range of the rounds in "
                "brackets; ratios are of tokens/s within a round.",
                "Output error (of a probability) and articles with other labels are against fp32 "
                "on held-out texts, measured by",
                "the export and stored in the bundle; a precision that failed the export's check "
                "has no row.",
                "The peers have a linear head, narrascan the head of the trained model. What "
                "limits the speed, and what would be",
                "faster: [ADR 10](../adr/0010-reduced-precision.md).",
                "",
                f"Model: {results.model}. Machine: {results.machine.cores} cores, "
                f"{results.machine.cpu}; peaks: {peaks}.",
                "",
                f"![speed against transformers.pipeline]({chart.name})",
                "",
                *sections,
            ]
        ),
        encoding="utf-8",
    )


def _table(backends: Mapping[str, BackendResult]) -> str:
    headings = ["backend", "over pipeline", "over torch sorted", "tokens/s", "share of peak"]
    headings += ["peak MB", "max output error", "mean output error", "articles changed"]
    return markdown_table(headings, [_cells(*backend) for backend in backends.items()])


def _cells(name: str, result: BackendResult) -> list[str]:
    low, high = result.ratio_pipeline_range
    return [
        NAMES.get(name, name),
        f"{result.ratio_pipeline:.2f} ({low:.2f} to {high:.2f})",
        f"{result.ratio_torch_sorted:.2f}",
        f"{result.tokens_per_s:,.0f}",
        f"{result.share_of_peak:.0%}",
        f"{result.peak_rss_mb:,.0f}",
        "" if result.output_error_max is None else f"{result.output_error_max:.4f}",
        "" if result.output_error_mean is None else f"{result.output_error_mean:.1e}",
        "" if result.articles_changed is None else f"{result.articles_changed:.2%}",
    ]


def _draw(results: Results, path: Path) -> None:
    """Draw a bar for every backend: its speed divided by that of the pipeline."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(1, 2, figsize=(10, 3), layout="constrained", sharey=True)
    for axes, (corpus, backends) in zip(grid, results.corpora.items(), strict=True):
        names = list(backends)[::-1]
        ratios = [backends[name].ratio_pipeline for name in names]
        colors = ["0.6" if name in ("pipeline", "torch-sorted") else "C0" for name in names]
        bars = axes.barh([NAMES.get(name, name) for name in names], ratios, color=colors)
        axes.bar_label(bars, [f"{ratio:.1f}" for ratio in ratios], padding=3)
        axes.set(
            title=f"{corpus}, {results.mean_tokens[corpus]} tokens on average",
            xlabel="tokens/s over those of transformers.pipeline",
            xlim=(0, 1.15 * max(ratios)),
        )
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
