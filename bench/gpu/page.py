"""The page docs/benchmarks/gpu.md, rendered from the results of the steps."""

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
    "fp16 matches a CPU": "scores of CUDA against those of a CPU on a real bundle, single thread",
    "fp16 bit-identical": "bit-identical scores in every order and with every chunk size",
    "small GPU memory limit": "a run with a small `--gpu-memory-limit`",
    "speed news": "articles/s against transformers.pipeline and sentence-transformers",
    "speed long": "articles/s on long texts",
    "speed base news": "articles/s with an encoder of 110 M parameters",
    "batch sizes fp16 news": "tokens/s by batch size",
    "whole run x1": "whole runs of `batch-classify`, with GPU utilization over time",
    "every kind": "the tests of `pytest -m gpu` that score a task of every kind",
}
"""Steps of a complete page, with their descriptions."""


def write_page(results: Path, page: Path) -> None:
    """Write the page. Raises OSError if there are no results."""
    page.write_text(render(read_steps(results)), encoding="utf-8")


def render(steps: Steps) -> str:
    """The page as Markdown, from the steps that were run."""
    machine = steps.get("machine", {})
    versions = machine.get("versions", {})
    assert isinstance(versions, dict)
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    missing = [description for name, description in EXPECTED.items() if name not in steps]
    parts = [
        "# On an NVIDIA GPU",
        f"{machine.get('gpu', 'not run')} (GPU, driver, memory), {machine.get('cores', 0)} "
        f"cores; {packages}. Results: `bench/results/gpu.json`; command: `make bench-gpu`.",
        *([f"**Not measured yet**: {'; '.join(missing)}."] if missing else []),
        *_checks(steps),
        *_speeds(steps),
        *_whole_runs(steps),
        *_tokenizer(steps),
        *_engine(steps),
        *_launches(steps),
        *_kernels(steps),
        *_training(steps),
    ]
    return "\n\n".join(parts) + "\n"


def _passed(steps: Steps, prefix: str) -> dict[str, Mapping[str, object]]:
    """Passed steps whose name starts with `prefix`, by the rest of the name."""
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
        "launches",
        "training",
        "batch",
    )
    rows = [
        [name, "passed" if facts["passed"] else "failed", Markdown(str(facts.get("note", "")))]
        for name, facts in steps.items()
        if not name.startswith(others)
    ]
    return _section("Checks", ["check", "result", ""], rows)


def _speeds(steps: Steps) -> list[str]:
    rows = []
    for name, facts in _passed(steps, "speed").items():
        speeds, ratios = facts["articles_per_s"], facts["against_pipeline"]
        assert isinstance(speeds, dict)
        assert isinstance(ratios, dict)
        rows += [
            [
                f"{name} ({facts['mean_tokens']} tokens)",
                PEER_NAMES[backend],
                f"{speed:,}",
                f"{ratios[backend]}",
            ]
            for backend, speed in speeds.items()
        ]
    header = ["texts", "backend", "articles/s", "times transformers.pipeline"]
    return _section("Articles/s, from strings to probabilities", header, rows)


def _whole_runs(steps: Steps) -> list[str]:
    rows = [
        [
            name,
            f"{facts['rows']:,}",
            f"{facts['articles_per_s']:,}",
            f"{facts['gpu_use_mean']}",
            f"{facts['gpu_memory_mb']:,}",
        ]
        for name, facts in _passed(steps, "whole run").items()
    ]
    header = ["run", "articles", "articles/s", "GPU busy", "GPU memory, MB"]
    return _section("Whole runs, including start-up, reading and writing", header, rows)


def _tokenizer(steps: Steps) -> list[str]:
    rows = [
        [name, f"{facts['articles_per_s']:,}", f"{facts['tokens_per_s']:,}"]
        for name, facts in _passed(steps, "tokenizer").items()
    ]
    return _section("Tokenizer alone", ["texts", "articles/s", "tokens/s"], rows)


def _engine(steps: Steps) -> list[str]:
    rows = []
    for name, facts in [*_passed(steps, "engine").items(), *_passed(steps, "batch sizes").items()]:
        speeds = facts["tokens_per_s"]
        assert isinstance(speeds, dict)
        rows += [[name, setting, f"{speed:,}"] for setting, speed in speeds.items()]
    return _section("Tokenized texts to logits", ["texts", "setting", "tokens/s"], rows)


def _launches(steps: Steps) -> list[str]:
    parts = []
    for name, facts in _passed(steps, "launches").items():
        by_shape = facts["ms"]
        assert isinstance(by_shape, dict)
        rows = [
            [shape, *(f"{ms:.2f}" for ms in modes.values())] for shape, modes in by_shape.items()
        ]
        modes = list(next(iter(by_shape.values())))
        parts += _section(f"Milliseconds of a batch: {name}", ["rows x tokens", *modes], rows)
        if str(facts["graph"]).startswith("failed"):
            parts.append("CUDA graphs: onnxruntime ended with an error of CUDA at capture.")
    return parts


def _kernels(steps: Steps) -> list[str]:
    parts = []
    for name, facts in _passed(steps, "kernels").items():
        kernels = facts["kernels_ms"]
        assert isinstance(kernels, dict)
        total_ms = float(str(facts["all_kernels_ms"]))
        rows = [
            [Markdown(f"`{kernel[:60]}`"), f"{ms}", f"{100 * ms / total_ms:.0f} %"]
            for kernel, ms in list(kernels.items())[:SHOWN_KERNELS]
        ]
        share = 100 * float(str(facts["busy_share"]))
        note = f", {facts['note']}" if "note" in facts else ""
        title = f"Kernels: {name}{note}, {total_ms:,.0f} ms in total, "
        title += f"GPU busy {share:.0f} % of the time"
        parts += _section(title, ["kernel", "ms", "share"], rows)
    return parts


def _training(steps: Steps) -> list[str]:
    rows = [
        [name, *(str(facts[key]) for key in ("seconds_of_epochs", "articles_per_s", "validation"))]
        for name, facts in _passed(steps, "training").items()
    ]
    header = ["run", "seconds (all epochs)", "articles/s", "best mean F1 on held-out rows"]
    return _section("Training", header, rows)
