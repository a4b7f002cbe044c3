"""Page and picture of the learning curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from bench.few.results import METHOD_NAMES, MethodName, Results, Row
from schemas.markdown import Markdown, markdown_table

TITLES: dict[MethodName, str] = {
    "tfidf-svm": "TF-IDF + SVM",
    "frozen-logreg": "frozen vectors",
    "setfit": "contrastive",
    "finetune": "plain fine-tuning",
    "default": "default recipe",
}

INTRO = """# Which method at how many labelled rows

`make bench-few` wrote this page and its picture from [bench/results/few.json]({results}). It
trains on draws of so many rows, up to five of them, and on all rows. Every method reads the first
128 tokens of a text. The test rows are the same for all draws; those of public sets come from what
these give out for training, those of the samples are the articles of the demo.

- **TF-IDF + SVM**: linear support vector machines over TF-IDF of words and pairs of words; for any
  number of labels, one threshold from cross-validation.
- **frozen vectors**: logistic regressions over mean hidden states of the encoder as it is;
  thresholds likewise.
- **contrastive**: the same after tuning the encoder on pairs of texts, as SetFit does, at most
  2,000 pairs; labels are decided at 0.5.
- **plain fine-tuning**: a linear head over the mean, cross-entropy, one rate of 5e-5, 20 epochs up
  to 1,000 rows and 4 above.
- **default recipe**: what `train-classifier` does with a config that names the data and nothing
  else.

Scores are means, with 95 % intervals for other draws and other test rows. **Bold** is the best of a
row. *Italic* is a default recipe below the interval of the best: noise does not explain that, where
both have the same draws. Cells say where a method has fewer draws than another.

![main score by number of rows]({picture})
"""

COSTS = """## What they cost

Seconds of training on two cores, mean of the sets measured. The default recipe takes at least 12
steps an epoch, so that its time hardly depends on the number of rows below 200.

{table}
"""


MOST_COMPARED = 800
"""Rows up to which all sets have draws of the same size."""


def write_page(results: Results, page: Path) -> None:
    """Write the page, and the picture next to it."""
    picture = page.with_name(f"{page.stem}.png")
    sets = list(dict.fromkeys(row.data for row in results.rows))
    blocks = [
        INTRO.format(picture=picture.name, results="../../bench/results/few.json"),
        *(_section(results, name) for name in sets),
        COSTS.format(table=_costs(results)),
    ]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(blocks), encoding="utf-8")
    _draw(results, sets, picture)


def _section(results: Results, data: str) -> str:
    tables = []
    for metric, rows in _by_metric(results, data):
        sizes = sorted({row.rows for row in rows})
        table = markdown_table(
            ["rows", *(TITLES[method] for method in METHOD_NAMES)],
            [_cells(size, [row for row in rows if row.rows == size]) for size in sizes],
        )
        tables.append(f"{metric.replace('_f1', '-F1')}:\n\n{table}")
    return "\n".join([f"## {data}\n", *tables])


def _by_metric(results: Results, data: str) -> Iterator[tuple[str, list[Row]]]:
    rows = [row for row in results.rows if row.data == data]
    for metric in dict.fromkeys(row.metric for row in rows):
        yield metric, [row for row in rows if row.metric == metric]


def _cells(size: int, rows: list[Row]) -> list[str]:
    by_method = {row.method: row for row in rows}
    best = max(rows, key=lambda row: row.mean)
    most_draws = max(row.draws for row in rows)
    cells = [f"{size:,}"]
    for method in METHOD_NAMES:
        row = by_method.get(method)
        if row is None:
            cells.append("–")
            continue
        mark = "**" if row is best else "*" if method == "default" and is_below(row, best) else ""
        fewer = "" if row.draws == most_draws else f", {row.draws} of {most_draws} draws"
        text = f"{mark}{row.mean:.3f}{mark} ({row.low:.3f} to {row.high:.3f}{fewer})"
        cells.append(Markdown(text))
    return cells


def is_below(row: Row, best: Row) -> bool:
    """True if a mean is below the interval of the best."""
    return row.mean < best.low


def _costs(results: Results) -> str:
    sizes = sorted({row.rows for row in results.rows if row.rows <= MOST_COMPARED})

    def seconds(size: int, method: MethodName) -> str:
        taken = [row.seconds for row in results.rows if (row.rows, row.method) == (size, method)]
        return f"{fmean(taken):.1f}" if taken else "–"

    return markdown_table(
        ["rows", *(TITLES[method] for method in METHOD_NAMES)],
        [[f"{size:,}", *(seconds(size, method) for method in METHOD_NAMES)] for size in sizes],
    )


def _draw(results: Results, sets: list[str], path: Path) -> None:
    """Draw a panel for each set: the main metric by number of rows, a line and a band a method."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    columns = min(3, len(sets))
    lines = -(-len(sets) // columns)
    figure, grid = pyplot.subplots(
        lines, columns, figsize=(4.2 * columns, 3.3 * lines), layout="constrained", squeeze=False
    )
    for axes in grid.ravel()[len(sets) :]:
        axes.axis("off")
    for axes, data in zip(grid.ravel(), sets, strict=False):
        metric, rows = next(_by_metric(results, data))
        for color, method in enumerate(METHOD_NAMES):
            points = sorted((row for row in rows if row.method == method), key=lambda row: row.rows)
            sizes = [row.rows for row in points]
            style = {"color": f"C{color}", "linewidth": 2.5 if method == "default" else 1.2}
            means = [row.mean for row in points]
            axes.plot(sizes, means, marker="o", markersize=3, label=TITLES[method], **style)
            low, high = ([getattr(row, end) for row in points] for end in ("low", "high"))
            axes.fill_between(sizes, low, high, color=f"C{color}", alpha=0.12, linewidth=0)
        axes.set(title=data, xscale="log", xlabel="labelled rows")
        axes.set_ylabel(metric.replace("_f1", "-F1"))
        ticks = sorted({row.rows for row in rows})
        axes.set_xticks(ticks, [f"{size:,}" for size in ticks], fontsize="x-small")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="outside lower center")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
