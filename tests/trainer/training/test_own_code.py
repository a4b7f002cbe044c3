"""Code that comes with a model is never run, in training and in export."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from exporter.cli import main as export_classifier
from schemas.config.models import TrainingRun
from schemas.errors import CheckpointError
from trainer.cli import main as train_classifier
from trainer.training.loop import train

MakeRun = Callable[..., TrainingRun]

ROOT = Path(__file__).parents[3]
LOADERS = {"from_pretrained", "from_config"}

MODULE = """
from pathlib import Path
Path({target!r}).touch()
from transformers import BertConfig, BertModel
class OwnConfig(BertConfig):
    model_type = "own"
class OwnModel(BertModel):
    config_class = OwnConfig
"""


def bring_code(folder: Path, target: Path) -> Path:
    """Make the model of a folder ask for code of its own, which would write `target`."""
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    config |= {"model_type": "own", "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(MODULE.format(target=str(target)))
    return folder


def run_with_yes(command: click.Command, *words: str) -> Result:
    """Run a command and answer every question with yes."""
    return CliRunner().invoke(command, words, input="y\n" * 20)


def test_code_of_an_encoder_is_not_run(
    encoder: Path, config_file: Path, corpus: Path, tmp_path: Path
) -> None:
    """Training refuses the encoder, also where somebody answers yes, and says why."""
    target = tmp_path / "written"
    source = bring_code(shutil.copytree(encoder, tmp_path / "encoder"), target)
    words = (str(config_file), "--output", str(tmp_path / "out"))
    result = run_with_yes(train_classifier, *words, "--set", f"encoder.source={source}")

    assert not target.exists()
    assert result.exit_code == 1
    assert "needs its own code (`auto_map` in a config), which is never run" in result.stderr
    assert "y/N" not in result.output
    assert not (tmp_path / "out").exists()


def test_code_of_a_checkpoint_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    """Export refuses it likewise."""
    target = tmp_path / "written"
    source = bring_code(shutil.copytree(checkpoint, tmp_path / "checkpoint"), target)
    result = run_with_yes(export_classifier, str(source), "--output", str(tmp_path / "out"))

    assert not target.exists()
    assert result.exit_code == 1
    assert "asks for code of its own (`auto_map`), which is never run" in result.stderr
    assert not (tmp_path / "out").exists()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.target,))


class StoppedError(Exception):
    """Ends a run after an epoch."""


def stop(record: object) -> None:
    """What is called after an epoch."""
    raise StoppedError


@pytest.mark.parametrize("name", ["optimizer.bin", "scheduler.bin", "random_states_0.pkl"])
def test_pickle_in_the_state_of_a_run_is_not_run(
    name: str, make_run: MakeRun, corpus: Path, tmp_path: Path
) -> None:
    """A state file that was exchanged for a pickle with code in it is not executed."""
    with pytest.raises(StoppedError):
        train(make_run(), tmp_path / "out", on_epoch=stop)
    state = tmp_path / "out" / "state" / "run" / name
    assert state.exists()
    state.write_bytes(pickle.dumps(Bomb(tmp_path / "written")))
    with suppress(CheckpointError):
        train(make_run(), tmp_path / "out")

    assert not (tmp_path / "written").exists()


def loading_calls(package: str) -> Iterator[tuple[Path, ast.Call]]:
    """Calls that load a model, a config or a tokenizer by name."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in LOADERS:
                yield path, node


@pytest.mark.parametrize("package", ["trainer", "exporter", "bench"])
def test_every_loading_call_refuses_code(package: str) -> None:
    """`trust_remote_code=False` stands in each call: left out, transformers asks on a terminal."""
    for path, call in loading_calls(package):
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}

        assert given.get("trust_remote_code") == "False", f"{path}:{call.lineno}"
