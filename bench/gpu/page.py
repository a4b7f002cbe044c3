"""docs/benchmarks/gpu.md and the facts that it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.gpu.steps import read_steps
from bench.paths import PAGES
from schemas.markdown import Markdown, markdown_table

PAGE = PAGES / "gpu.md"

Steps = Mapping[str, Mapping[str, object]]

PEER_NAMES = {
    "fp16": "narrascan fp16",
    "fp32": "narrascan fp32",
    "pipeline": "transformers.pipeline fp16, 32 texts",
    "sentence-transformers": "sentence-transformers fp16, sorted, embeddings only",
}
SHOWN_KERNELS = 8
EXPECTED = {
    "fp16 as a CPU": "scores of CUDA against those of a CPU on a real bundle, with one thread",
    "fp16 same bits": "the same bits in every order and chunk size",
    "little GPU memory": "a run with a small `--gpu-memory-limit`",
    "speed news": "articles/s against transformers.pipeline and sentence-transformers",
    "batch sizes fp16 news": "tokens/s by batch size, with the masks and the thread of now",
    "whole run x1": "whole runs of `batch-classify`, and the use of the GPU all along",
}
"""Steps that a complete page has, by name."""


def write_page(results: Path, page: Path) -> None:
    """Write the page. Raises OSError if there are no results."""
    page.write_text(render(read_steps(results)), encoding="utf-8")


def render(steps: Steps) -> str:
    """The page as Markdown, from whichever steps were run."""
    machine = steps.get("machine", {})
    versions = machine.get("versions", {})
    assert isinstance(versions, dict)
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    missing = [what for name, what in EXPECTED.items() if name not in steps]
    parts = [
        "# On an NVIDIA GPU",
        f"{machine.get('gpu', 'not run')} (driver after the name), {machine.get('cores', 0)} "
        f"cores; {named}. Facts: `bench/results/gpu.json`; `make bench-gpu` measures again.",
        *([f"**Not measured yet**: {'; '.join(missing)}."] if missing else []),
        *_checks(steps),
        *_speeds(steps),
        *_whole_runs(steps),
        *_tokenizer(steps),
        *_engine(steps),
        *_kernels(steps),
        *_training(steps),
    ]
    return "\n\n".join(parts) + "\n"


def _named(steps: Steps, prefix: str) -> dict[str, Mapping[str, object]]:
    """Steps that passed and begin with a word, by the rest of their name."""
    return {
        name.removeprefix(prefix).strip(): facts
        for name, facts in steps.items()
        if name.startswith(prefix) and facts.get("passed")
    }


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"## {title}", markdown_table(header, rows)] if rows else []


def _checks(steps: Steps) -> list[str]:
    others = (
        "machine",
        "speed",
        "whole run",
        "tokenizer",
        "engine",
        "kernels",
        "training",
        "batch",
    )
    rows = [
        [name, "held" if facts["passed"] else "failed", Markdown(str(facts.get("note", "")))]
        for name, facts in steps.items()
        if not name.startswith(others)
    ]
    return _section("What was checked", ["check", "result", ""], rows)


def _speeds(steps: Steps) -> list[str]:
    rows = []
    for name, facts in _named(steps, "speed").items():
        speeds, ratios = facts["articles_per_s"], facts["against_pipeline"]
        assert isinstance(speeds, dict)
        assert isinstance(ratios, dict)
        rows += [
            [
                f"{name} ({facts['mean_tokens']} tokens)",
                PEER_NAMES[way],
                f"{speed:,}",
                f"{ratios[way]}",
            ]
            for way, speed in speeds.items()
        ]
    header = ["texts", "backend", "articles/s", "times the pipeline"]
    return _section("Articles a second, from strings to probabilities", header, rows)


def _whole_runs(steps: Steps) -> list[str]:
    rows = [
        [
            name,
            f"{facts['rows']:,}",
            f"{facts['articles_per_s']:,}",
            f"{facts['gpu_use_mean']}",
            f"{facts['gpu_memory_mb']:,}",
        ]
        for name, facts in _named(steps, "whole run").items()
    ]
    header = ["run", "articles", "articles/s", "GPU busy", "GPU memory, MB"]
    return _section("Whole runs, with starting, reading and writing", header, rows)


def _tokenizer(steps: Steps) -> list[str]:
    rows = [
        [name, f"{facts['articles_per_s']:,}", f"{facts['tokens_per_s']:,}"]
        for name, facts in _named(steps, "tokenizer").items()
    ]
    return _section("The tokenizer alone", ["texts", "articles/s", "tokens/s"], rows)


def _engine(steps: Steps) -> list[str]:
    rows = []
    for name, facts in [*_named(steps, "engine").items(), *_named(steps, "batch sizes").items()]:
        speeds = facts["tokens_per_s"]
        assert isinstance(speeds, dict)
        rows += [[name, setting, f"{speed:,}"] for setting, speed in speeds.items()]
    return _section("Tokenized texts to logits", ["texts", "setting", "tokens/s"], rows)


def _kernels(steps: Steps) -> list[str]:
    parts = []
    for name, facts in _named(steps, "kernels").items():
        kernels = facts["kernels_ms"]
        assert isinstance(kernels, dict)
        whole = float(str(facts["all_kernels_ms"]))
        rows = [
            [Markdown(f"`{kernel[:60]}`"), f"{spent}", f"{100 * spent / whole:.0f} %"]
            for kernel, spent in list(kernels.items())[:SHOWN_KERNELS]
        ]
        share = 100 * float(str(facts["busy_share"]))
        title = (
            f"Kernels: {name}, {whole:,.0f} ms in all, the GPU busy for {share:.0f} % of the time"
        )
        parts += _section(title, ["kernel", "ms", "share"], rows)
    return parts


def _training(steps: Steps) -> list[str]:
    rows = [
        [name, *(str(facts[key]) for key in ("seconds_of_epochs", "articles_per_s", "validation"))]
        for name, facts in _named(steps, "training").items()
    ]
    header = ["run", "seconds of all epochs", "articles/s", "best mean F1 on held-out rows"]
    return _section("Training", header, rows)
