"""Fixtures that several folders share; each is made once and must not be changed by a test."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
# Read when torch and numpy are imported, here and in the processes that tests start. Tiny tensors
# gain nothing from threads, and threads that wait for each other on shared cores cost five times
# the time of a training run.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of tests start a process: each would compile all sources again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import click
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from tokenizers import Tokenizer

from tests.tiny import PLAIN_TASKS, make_encoder, make_tokenizer, write_config

Command = Callable[..., Result]
MakeOnce: TypeAlias = Callable[[str, Callable[[Path], object]], Path]

LONGEST = (
    "tests/exporter/bundle/test_export.py",
    "tests/test_docs.py",
    "tests/batch/output/test_exactly_once.py",
    "tests/trainer/search/test_search.py",
    "tests/robustness/test_fuzz.py",
    "tests/batch/output/test_bad_output.py",
    "tests/exporter/precision/test_fp16.py",
    "tests/trainer/training/test_scale_out.py",
    "tests/batch/pipeline/test_stop.py",
    "tests/batch/machine/test_little_memory.py",
    "tests/trainer/crossval/test_crossval.py",
    "tests/exporter/precision/test_reduce.py",
)
"""Files that take longest. Workers take whole files in this order, and one that began such a file
last would end alone.
"""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first, and leave the order within and after them."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A tokenizer learned from the samples."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[MakeOnce]:
    """Makes a folder that all workers share, in the first that needs it, and checks at the end of
    the session that no test has changed it.

    The recipe of pytest-xdist's documentation: a folder above those of the workers, and a lock.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "shared"
    root.mkdir(exist_ok=True)
    contents: dict[Path, dict[str, str]] = {}

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        folder, finished = root / name, root / f"{name}.json"
        with FileLock(root / f"{name}.lock"):
            if not finished.exists():
                folder.mkdir()  # fails where the first attempt did, in another worker
                make(folder)
                finished.write_text(json.dumps(_hashes(folder)))
        contents[folder] = json.loads(finished.read_text())
        return folder

    yield make_once
    for folder, hashes in contents.items():
        assert _hashes(folder) == hashes, f"a test changed {folder}, which others share"


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture(scope="session")
def encoder(make_once: MakeOnce, tokenizer: Tokenizer) -> Path:
    """Folder of a tiny bert with random weights."""
    return make_once("encoder", lambda folder: make_encoder(folder, tokenizer=tokenizer))


@pytest.fixture(scope="session")
def checkpoint(make_once: MakeOnce, encoder: Path) -> Path:
    """A checkpoint of both sample tasks, trained for two epochs through the command line."""
    from trainer.cli import main

    def make(folder: Path) -> None:
        config = write_config(folder / "config.toml", encoder)
        run(main, config, "--output", folder / "checkpoint")

    return make_once("trained", make) / "checkpoint"


@pytest.fixture(scope="session")
def bundle(make_once: MakeOnce, checkpoint: Path) -> Path:
    """The bundle of `checkpoint` in fp32, exported through the command line."""
    from exporter.cli import main

    def make(folder: Path) -> None:
        run(main, checkpoint, "--output", folder / "bundle", "--precision", "fp32")

    return make_once("exported", make) / "bundle"


@pytest.fixture(scope="session")
def joint_bundle(make_once: MakeOnce, encoder: Path) -> Path:
    """A bundle of tasks roles, site and narrative, which read the same text, and entity_framing,
    which does not; trained and exported through the command lines.
    """
    from exporter.cli import main as export
    from trainer.cli import main as train

    def make(folder: Path) -> None:
        config = write_config(folder / "config.toml", encoder, epochs=1, extra=PLAIN_TASKS)
        trained = folder / "checkpoint"
        run(train, config, "--output", trained)
        run(export, trained, "--output", folder / "bundle", "--precision", "fp32")

    return make_once("joint", make) / "bundle"


@pytest.fixture(scope="session")
def tiny_kinds(make_once: MakeOnce) -> Path:
    """A folder with `checkpoint` and `bundle`, in fp32, of tasks of every kind."""
    from tests.robustness.bundles import tiny_bundle

    return make_once("kinds", lambda folder: tiny_bundle(folder / "tiny")) / "tiny"


def run(command: click.Command, *arguments: object) -> None:
    """Run a command line that has to succeed."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture
def batch_classify(bundle: Path) -> Command:
    """Runs `batch-classify` with the tiny bundle; options as keywords, --task narrative.

    An option whose value is a list is given once for each of it.
    """
    from batch.cli import main

    def call(*arguments: str | Path, **options: Any) -> Result:
        options = {"task": "narrative", "bundle": bundle, "device": "cpu", **options}
        words = [str(argument) for argument in arguments]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            values = value if isinstance(value, list) else [value]
            words += [flag] if value is True else [w for one in values for w in (flag, str(one))]
        return CliRunner().invoke(main, words)

    return call
