"""The ranking of encoders: `encoders.json`, a table in `encoders.md`, and a picture."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from schemas.io.files import atomic_path, write_atomic
from schemas.kinds.embedding import Pooling
from schemas.markdown import markdown_code, markdown_table, score_text
from trainer.evaluation.pictures import picture_text, save_picture


class RankedEncoder(BaseModel):
    """Scores of one encoder, in [0, 1], by one pooling of its hidden states.

    accuracy: None where rows may have any number of labels. parameters: of the encoder.
    """

    model_config = ConfigDict(frozen=True)

    encoder: str
    pooling: Pooling
    accuracy: float | None
    micro_f1: float
    macro_f1: float
    parameters: int
    texts_per_s: float

    @property
    def score(self) -> float:
        """What encoders are ranked by."""
        return self.micro_f1 if self.accuracy is None else self.accuracy


class Ranking(BaseModel):
    """Content of `encoders.json`; the best encoder comes first.

    rows: different texts that were compared. labels: that they have.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    rows: int
    labels: int
    neighbours: int
    max_tokens: int
    encoders: tuple[RankedEncoder, ...]

    @property
    def metric(self) -> str:
        """Name of what encoders are ranked by."""
        return "micro-F1" if self.encoders[0].accuracy is None else "accuracy"

    @property
    def standard_error(self) -> float:
        """Of the best score, as of a share of so many rows."""
        best = self.encoders[0].score
        return float((best * (1 - best) / self.rows) ** 0.5)


def ranking_table(ranking: Ranking) -> str:
    """Encoders with their scores, as Markdown."""
    return markdown_table(
        ["encoder", "pooling", ranking.metric, "macro-F1", "parameters", "texts/s"],
        [
            [
                one.encoder,
                one.pooling,
                score_text(one.score),
                score_text(one.macro_f1),
                f"{one.parameters / 1e6:,.0f} M",
                f"{one.texts_per_s:,.0f}",
            ]
            for one in ranking.encoders
        ],
    )


def write_report(ranking: Ranking, folder: Path) -> None:
    """Write the files, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "encoders.md", _page(ranking))
    _draw(ranking, folder / "encoders.png")
    write_atomic(folder / "encoders.json", ranking.model_dump_json(indent=1))


def _page(ranking: Ranking) -> str:
    return (
        f"# Encoders as they are\n\n{ranking.rows:,} rows of {markdown_code(ranking.data)} with "
        f"{ranking.labels} labels, the first {ranking.max_tokens} tokens of each. Every row is "
        f"labelled by the {ranking.neighbours} others closest to it. Differences below "
        f"{2 * ranking.standard_error:.3f} may be chance, and fine-tuning can change the order: an "
        "encoder that is worse as it is may be better afterwards.\n\n"
        f"{ranking_table(ranking)}\n![Scores](encoders.png)\n"
    )


def _draw(ranking: Ranking, path: Path) -> None:
    """A bar for each encoder and pooling, the best on top."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = [f"{picture_text(one.encoder)}, {one.pooling}" for one in ranking.encoders]
    scores = [one.score for one in ranking.encoders]
    figure, axes = pyplot.subplots(figsize=(7, 1.2 + 0.4 * len(names)), layout="constrained")
    bars = axes.barh(names, scores, color="C0")
    axes.bar_label(bars, [f"{score:.3f}" for score in scores], padding=3, fontsize="small")
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.08), xlabel=ranking.metric)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        save_picture(figure, temporary)
    pyplot.close(figure)
