"""Fixtures that several rooms share; each is made once and must not be changed by a test."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
# Read when torch and numpy are imported, here and in the processes that tests start. Tiny tensors
# gain nothing from threads, and threads that wait for each other on shared cores cost five times
# the time of a training run.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tokenizers import Tokenizer

from tests.tiny import PLAIN_TASKS, make_encoder, make_tokenizer, write_config

Command = Callable[..., Result]

LONGEST = (
    "tests/exporter/bundle/test_export.py",
    "tests/test_docs.py",
    "tests/batch/output/test_exactly_once.py",
    "tests/trainer/search/test_search.py",
    "tests/robustness/test_fuzz.py",
    "tests/exporter/precision/test_reduce.py",
    "tests/trainer/training/test_scale_out.py",
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
def encoder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """Folder of a tiny bert with random weights."""
    return make_encoder(tmp_path_factory.mktemp("encoder"), tokenizer=tokenizer)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A checkpoint of both sample tasks, trained for two epochs through the command line."""
    from trainer.cli import main

    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder / "config.toml", encoder)
    output = folder / "checkpoint"
    result = CliRunner().invoke(main, [str(config), "--output", str(output)])
    assert result.exit_code == 0, result.output
    return output


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """The bundle of `checkpoint` in fp32, exported through the command line."""
    from exporter.cli import main

    output = tmp_path_factory.mktemp("exported") / "bundle"
    words = [str(checkpoint), "--output", str(output), "--precision", "fp32"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return output


@pytest.fixture(scope="session")
def joint_bundle(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A bundle of tasks roles, site and narrative, which read the same text, and entity_framing,
    which does not; trained and exported through the command lines.
    """
    from exporter.cli import main as export
    from trainer.cli import main as train

    folder = tmp_path_factory.mktemp("joint")
    config = write_config(folder / "config.toml", encoder, epochs=1, extra=PLAIN_TASKS)
    for command, words in (
        (train, [str(config), "--output", str(folder / "checkpoint")]),
        (
            export,
            [str(folder / "checkpoint"), "--output", str(folder / "bundle"), "--precision", "fp32"],
        ),
    ):
        result = CliRunner().invoke(command, words)
        assert result.exit_code == 0, result.output
    return folder / "bundle"


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
