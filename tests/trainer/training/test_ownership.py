"""Output folders that training, cross-validation and search refuse and do not change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas.config.models import TrainingRun
from schemas.errors import LockedError, OutputError
from schemas.io.lock import lock_inside
from trainer.cli import main
from trainer.crossval import cross_validate
from trainer.search.study import Limits, search
from trainer.training.loop import train

MakeRun = Callable[..., TrainingRun]
Command = Callable[[Path], object]

BRIEF = ("train.epochs=1",)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(params=["train", "train --overwrite", "cross-validate --overwrite", "search"])
def command(request: pytest.FixtureRequest, make_run: MakeRun, config_file: Path) -> Command:
    """A command that writes to a folder, as a function of the folder."""
    config = make_run(*BRIEF)
    commands: dict[str, Command] = {
        "train": lambda output: train(config, output),
        "train --overwrite": lambda output: train(config, output, overwrite=True),
        "cross-validate --overwrite": lambda output: cross_validate(
            config, output, folds=2, overwrite=True
        ),
        "search": lambda output: search(
            config_file, ["seed=1,2"], output, limits=Limits(1), overrides=BRIEF
        ),
    }
    return commands[request.param]


@pytest.mark.parametrize(
    "names",
    [
        ["notes.txt"],
        ["heldout/mine.parquet"],
        ["state/mine.bin"],
        ["config.json", "model.safetensors"],
        ["curves.png"],
        ["history.json"],
        ["fold-1/checkpoint.bak"],
        ["trial-000/mine"],
    ],
    ids=" ".join,
)
def test_folder_with_other_files_is_refused(
    command: Command, tmp_path: Path, names: list[str]
) -> None:
    """Files that the command did not write prevent its start, whatever their names."""
    output = tmp_path / "out"
    for name in names:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("mine")

    with pytest.raises(OutputError, match="contains files that are not of a"):
        command(output)
    assert contents(output) == dict.fromkeys(names, b"mine")


def test_foreign_folder_of_a_fold_is_not_removed(make_run: MakeRun, tmp_path: Path) -> None:
    """The folder of a fold beyond the new run is removed only if training created it."""
    output = tmp_path / "out"
    (output / "fold-7").mkdir(parents=True)
    (output / "fold-7" / "mine").write_text("mine")
    (output / "cross-validation.json").write_text('{"config_sha256": ""}')

    with pytest.raises(OutputError, match="fold-7"):
        cross_validate(make_run(*BRIEF), output, folds=2, overwrite=True)
    assert (output / "fold-7" / "mine").read_text() == "mine"


@pytest.fixture
def sources(encoder: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the encoder in it, for runs that would destroy it."""
    return shutil.copytree(encoder, tmp_path / "models" / "encoder")


@pytest.mark.parametrize("where", ["itself", "link", "child", "parent"])
def test_folder_of_the_encoder_is_refused(
    config_file: Path, corpus: Path, sources: Path, tmp_path: Path, where: str
) -> None:
    """The encoder's folder, a link to it, a folder in it and one around it."""
    text = config_file.read_text()
    (tmp_path / "link").symlink_to(sources)
    output = {
        "itself": sources,
        "link": tmp_path / "link",
        "child": sources / "new",
        "parent": sources.parent,
    }[where]
    config_file.write_text(text.replace(text.split('source = "')[1].split('"')[0], str(sources)))
    before = contents(sources)
    result = CliRunner().invoke(main, [str(config_file), "--output", str(output), "--overwrite"])

    assert result.exit_code == 1
    assert "which the config reads (encoder.source)" in result.output
    assert contents(sources) == before


def test_folders_of_data_and_start_from_are_refused(
    make_run: MakeRun, corpus: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Training would overwrite its own inputs."""
    lake = tmp_path / "lake"
    lake.mkdir()
    shutil.copy(corpus, lake / "a.parquet")
    start = shutil.copytree(checkpoint, tmp_path / "start")
    before = contents(start)

    with pytest.raises(OutputError, match=r"tasks.topics.data"):
        train(make_run(f"tasks.topics.data.0.path={lake}"), lake / "out")
    with pytest.raises(OutputError, match=r"encoder.start_from"):
        train(make_run(f"encoder.start_from={start}"), start, overwrite=True)
    assert contents(start) == before


def test_hidden_files_are_ignored(make_run: MakeRun, corpus: Path, tmp_path: Path) -> None:
    """Files of a file browser neither prevent a run nor are removed by it."""
    output = tmp_path / "out"
    output.mkdir()
    (output / ".DS_Store").write_text("mine")
    train(make_run(*BRIEF), output)
    train(make_run(*BRIEF, "seed=4"), output, overwrite=True)

    assert (output / ".DS_Store").read_text() == "mine"


def test_finished_checkpoint_is_recognized(make_run: MakeRun, corpus: Path, tmp_path: Path) -> None:
    """A finished checkpoint has no lock file, and is recognized by `checkpoint.json`."""
    output = tmp_path / "out"
    train(make_run(*BRIEF), output)
    before = contents(output)

    train(make_run(*BRIEF), output)
    assert contents(output) == before
    train(make_run(*BRIEF, "seed=4"), output, overwrite=True)


def test_locked_folder_is_not_written_to(command: Command, corpus: Path, tmp_path: Path) -> None:
    """A second run fails with the process that has locked the folder."""
    output = tmp_path / "out"
    with lock_inside(output, "training"), pytest.raises(LockedError, match="process"):
        command(output)
    assert not output.exists()


def test_failed_start_leaves_no_folder(command: Command, corpus: Path, tmp_path: Path) -> None:
    """A run that cannot begin leaves no empty folder."""
    corpus.unlink()

    with pytest.raises(Exception, match="no file or folder"):
        command(tmp_path / "out")
    assert not (tmp_path / "out" / ".lock").exists() or (tmp_path / "out" / "study.jsonl").exists()
