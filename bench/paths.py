"""Folders of the repository that benchmarks read and write."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
RESULTS = ROOT / "bench" / "results"
CONFIGS = ROOT / "configs"
PAGES = ROOT / "docs" / "benchmarks"
