"""The figures of `bench.scoring.throughput`, and the page and picture made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Self

from pydantic import BaseModel, ConfigDict

from bench.scoring.machine import Machine
from schemas.bundle.metadata import VariantCost
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


class Variant(_Record):
    """One way of scoring. Ratios and speed are medians over the rounds.

    ratio_pipeline, ratio_torch_sorted: tokens a second over those of the peer in the same round.
    share_of_peak: of what a large matrix product of that precision reaches.
    drift, articles_changed: against fp32 on the held-out texts of the model; None for fp32 and the
    peers.
    """

    ratio_pipeline: float
    ratio_torch_sorted: float
    tokens_per_s: float
    share_of_peak: float
    peak_rss_mb: float
    drift_max: float | None
    drift_mean: float | None
    articles_changed: float | None
    ratio_pipeline_range: tuple[float, float]

    @classmethod
    def of(
        cls,
        speeds: Mapping[str, Sequence[float]],
        way: str,
        *,
        peak_rss_mb: float,
        share_of_peak: float,
        cost: VariantCost | None,
    ) -> Self:
        """Summarise the rounds of one way beside those of the peers."""
        ratios = {
            peer: [ours / theirs for ours, theirs in zip(speeds[way], speeds[peer], strict=True)]
            for peer in ("pipeline", "torch-sorted")
        }
        over_pipeline = ratios["pipeline"]
        return cls(
            ratio_pipeline=round(median(over_pipeline), 2),
            ratio_torch_sorted=round(median(ratios["torch-sorted"]), 2),
            tokens_per_s=round(median(speeds[way])),
            share_of_peak=round(share_of_peak, 3),
            peak_rss_mb=round(peak_rss_mb),
            drift_max=None if cost is None else round(cost.drift_max, 5),
            drift_mean=None if cost is None else round(cost.drift_mean, 7),
            articles_changed=None if cost is None else round(cost.changed_articles, 5),
            ratio_pipeline_range=(round(min(over_pipeline), 2), round(max(over_pipeline), 2)),
        )


class Results(_Record):
    """`bench/results/throughput.json`; variants by name."""

    news: dict[str, Variant]
    long: dict[str, Variant]
    machine: Machine
    model: str
    texts: dict[str, int]
    mean_tokens: dict[str, int]
    rounds: int

    @property
    def corpora(self) -> dict[str, dict[str, Variant]]:
        """Variants by corpus."""
        return {"news": self.news, "long": self.long}


def write_page(results: Results, page: Path) -> None:
    """Write the tables and the picture beside them."""
    picture = page.with_suffix(".png")
    page.parent.mkdir(parents=True, exist_ok=True)
    _draw(results, picture)
    peaks = ", ".join(
        f"{precision} {gflops:,.0f} GFLOP/s" for precision, gflops in results.machine.peaks.items()
    )
    sections = [
        f"## {name.capitalize()}: {results.texts[name]:,} texts, {results.mean_tokens[name]} "
        f"tokens on average\n\n{_table(variants)}"
        for name, variants in results.corpora.items()
    ]
    page.write_text(
        "\n".join(
            [
                "# Speed of scoring on a CPU",
                "",
                "`make bench` wrote this page: from texts to probabilities, tokenizing included, "
                "against what people use otherwise,",
                "each way in a process of its own, taking turns. Lengths are log-normal, cut at "
                "512 tokens: news with a median of",
                "108 words and a 95th percentile of 474, long articles with 346 and 892; the words "
                "are those of `samples/`.",
                f"Medians of {results.rounds} rounds, the range of the rounds in brackets. Ratios "
                "are of tokens a second, within a",
                "round. Drift (of a probability) and articles with other labels are against fp32 "
                "on held-out texts, as the gate",
                "of the export measured them and the bundle says; a precision that fails the gate "
                "has no row.",
                "The peers have a linear head, ours the one that the model was trained with. What "
                "holds it back, and what would be",
                "faster still: [ADR 10](../adr/0010-reduced-precision.md).",
                "",
                f"Model: {results.model}. Machine: {results.machine.cores} cores, "
                f"{results.machine.cpu}; peaks: {peaks}.",
                "",
                f"![speed against transformers.pipeline]({picture.name})",
                "",
                *sections,
            ]
        ),
        encoding="utf-8",
    )


def _table(variants: Mapping[str, Variant]) -> str:
    headings = ["way", "over pipeline", "over torch sorted", "tokens/s", "share of peak"]
    headings += ["peak MB", "drift max", "drift mean", "articles changed"]
    return markdown_table(headings, [_cells(way, found) for way, found in variants.items()])


def _cells(way: str, found: Variant) -> list[str]:
    low, high = found.ratio_pipeline_range
    return [
        NAMES.get(way, way),
        f"{found.ratio_pipeline:.2f} ({low:.2f} to {high:.2f})",
        f"{found.ratio_torch_sorted:.2f}",
        f"{found.tokens_per_s:,.0f}",
        f"{found.share_of_peak:.0%}",
        f"{found.peak_rss_mb:,.0f}",
        "" if found.drift_max is None else f"{found.drift_max:.4f}",
        "" if found.drift_mean is None else f"{found.drift_mean:.1e}",
        "" if found.articles_changed is None else f"{found.articles_changed:.2%}",
    ]


def _draw(results: Results, path: Path) -> None:
    """A bar a way: how many times as fast as the pipeline."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(1, 2, figsize=(10, 3), layout="constrained", sharey=True)
    for axes, (name, variants) in zip(grid, results.corpora.items(), strict=True):
        ways = list(variants)[::-1]
        ratios = [variants[way].ratio_pipeline for way in ways]
        colours = ["0.6" if way in ("pipeline", "torch-sorted") else "C0" for way in ways]
        bars = axes.barh([NAMES.get(way, way) for way in ways], ratios, color=colours)
        axes.bar_label(bars, [f"{ratio:.1f}" for ratio in ratios], padding=3)
        axes.set(
            title=f"{name}, {results.mean_tokens[name]} tokens on average",
            xlabel="tokens/s over those of transformers.pipeline",
            xlim=(0, 1.15 * max(ratios)),
        )
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
