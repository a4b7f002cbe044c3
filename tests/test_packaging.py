"""The built package: what it contains and what it asks for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TRAINING_STACK = {
    "torch",
    "transformers",
    "accelerate",
    "optimum",
    "onnx",
    "scikit-learn",
    "polars",
}


def names(requirements: list[str]) -> set[str]:
    """Package names of a list of requirements."""
    return {re.split(r"[<>=!\[; ]", requirement, maxsplit=1)[0] for requirement in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that users install, built from the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    words = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run(
        [sys.executable, "-m", *words, str(folder), str(ROOT)], check=True, capture_output=True
    )
    return zipfile.ZipFile(next(folder.glob("narrascan-*.whl")))


def test_the_wheel_holds_every_package_and_the_report_template(wheel: zipfile.ZipFile) -> None:
    """Nothing that runs is missing, and neither tests nor benchmarks are installed."""
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info" not in name}

    assert tops == {"schemas", "trainer", "exporter", "batch", "narrascan"}
    assert {f"{top}/py.typed" for top in tops} <= set(wheel.namelist())
    assert "batch/report/templates/report.html.j2" in wheel.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_the_wheel_declares_three_commands(wheel: zipfile.ZipFile) -> None:
    """train-classifier, export-classifier and batch-classify."""
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()

    assert [line.split(" =")[0] for line in text.splitlines() if " = " in line] == [
        "batch-classify",
        "export-classifier",
        "train-classifier",
    ]


def test_the_base_install_brings_no_engine_and_no_training_stack() -> None:
    """The scoring image stays small."""
    base = names(PROJECT["dependencies"])

    assert not base & TRAINING_STACK
    assert not any(name.startswith("onnxruntime") for name in base)


def test_each_engine_is_in_its_own_extra() -> None:
    """`cpu` and `gpu` exclude each other, so no other extra may pull one of them in."""
    extras = PROJECT["optional-dependencies"]
    engines = {extra for extra, asked in extras.items() if "onnxruntime" in str(names(asked))}

    assert engines == {"cpu", "gpu"}
    assert names(extras["cpu"]) == {"onnxruntime"}
    assert names(extras["gpu"]) == {"onnxruntime-gpu"}


def test_every_dependency_is_pinned_in_the_tested_set() -> None:
    """deploy/constraints.txt names a version for whatever pyproject.toml asks for."""
    lines = (ROOT / "deploy" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    asked = set(names(PROJECT["dependencies"]))
    for requirements in PROJECT["optional-dependencies"].values():
        asked |= names(requirements)

    assert {name.lower() for name in asked} - pinned == {"narrascan"}
