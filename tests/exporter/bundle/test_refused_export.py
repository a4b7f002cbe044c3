"""What an export refuses or cannot finish leaves things as they were."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from exporter.bundle.export import export_checkpoint
from schemas.errors import CheckpointError, ExportError
from tests.exporting import export_classifier, folder_contents
from trainer.checkpoint.reader import GOLD


def test_folder_with_other_files_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """A folder that contains something else is not replaced, even if it is a checkpoint."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear")
    before = folder_contents(tmp_path)
    result = export_classifier(checkpoint, "--output", tmp_path / "notes")

    assert result.exit_code == 1
    assert "contains files that are not a bundle" in result.output
    assert folder_contents(tmp_path) == before
    with pytest.raises(ExportError, match="not a bundle"):
        export_checkpoint(checkpoint, checkpoint, precisions=["fp32"])


def test_bundle_with_other_files_in_it_is_refused(
    checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    """What someone put beside a bundle, or a bundle.json of another maker, is not deleted."""
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    (tmp_path / "website").mkdir()
    (tmp_path / "website" / "bundle.json").write_text('{"entry": "index.js"}')
    before = folder_contents(tmp_path)

    with pytest.raises(ExportError, match=r"not a bundle: 'notes\.txt'"):
        export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"])
    with pytest.raises(ExportError, match=r"not a bundle: 'bundle\.json'"):
        export_checkpoint(checkpoint, tmp_path / "website", precisions=["fp32"])
    assert folder_contents(tmp_path) == before


def test_damaged_bundle_is_replaced(
    trained_alone: Path, bundle_alone: Path, tmp_path: Path
) -> None:
    """A bundle whose files were changed or lost is still a bundle, and is made whole."""
    shutil.copytree(bundle_alone, tmp_path / "bundle")
    (tmp_path / "bundle" / "narrative.onnx").write_bytes(b"cut")
    (tmp_path / "bundle" / "tokenizer.json").unlink()
    export_checkpoint(trained_alone, tmp_path / "bundle", precisions=["fp32"])

    assert folder_contents(tmp_path / "bundle") == folder_contents(bundle_alone)


def test_empty_folder_is_filled(trained_alone: Path, bundle_alone: Path, tmp_path: Path) -> None:
    """A folder that was made beforehand is as good as none."""
    (tmp_path / "bundle").mkdir()
    export_checkpoint(trained_alone, tmp_path / "bundle", precisions=["fp32"])

    assert folder_contents(tmp_path / "bundle") == folder_contents(bundle_alone)


def damage_heldout(checkpoint: Path) -> None:
    """Cut the last task's held-out file short."""
    path = last_heldout(checkpoint)
    path.write_bytes(path.read_bytes()[:-20])


def empty_heldout(checkpoint: Path) -> None:
    """Leave no held-out row."""
    path = last_heldout(checkpoint)
    pq.write_table(pq.read_table(path).slice(0, 0), path)


def foreign_heldout(checkpoint: Path) -> None:
    """Put another table in place of the held-out rows."""
    pq.write_table(pa.table({"text": ["a"]}), last_heldout(checkpoint))


def unknown_label(checkpoint: Path) -> None:
    """Give a held-out row a label that the task does not have."""
    replace_first_gold(checkpoint, ["nobody"])


def no_gold(checkpoint: Path) -> None:
    """Take the gold value of a held-out row away."""
    replace_first_gold(checkpoint, None)


def last_heldout(checkpoint: Path) -> Path:
    """The held-out rows of the task that is exported last."""
    files = {path.stem: path for path in (checkpoint / "heldout").iterdir()}
    return files.get("entity_framing", files["narrative"])


def replace_first_gold(checkpoint: Path, labels: list[str] | None) -> None:
    """Give the last task's first held-out row other labels."""
    path = last_heldout(checkpoint)
    table = pq.read_table(path)
    gold = [labels, *table[GOLD].to_pylist()[1:]]
    column = pa.array(gold, pa.list_(pa.string()))
    pq.write_table(table.set_column(table.column_names.index(GOLD), GOLD, column), path)


def wrong_span(checkpoint: Path) -> None:
    """Move a held-out entity out of its text."""
    path = checkpoint / "heldout" / "entity_framing.parquet"
    table = pq.read_table(path)
    ends = pa.array([10**6, *table["end"].to_pylist()[1:]], pa.int64())
    pq.write_table(table.set_column(table.column_names.index("end"), "end", ends), path)


def cut_weights(checkpoint: Path) -> None:
    """Cut the weights short."""
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])


def nan_weights(checkpoint: Path) -> None:
    """Make the model give no numbers."""
    weights = load_file(checkpoint / "model.safetensors")
    weights["heads.entity_framing.linear.bias"][0] = float("nan")
    save_file(weights, checkpoint / "model.safetensors")


def garbled_tokenizer(checkpoint: Path) -> None:
    """Overwrite the tokenizer."""
    (checkpoint / "tokenizer.json").write_text("{}")


def unfinished(checkpoint: Path) -> None:
    """Take away what marks a whole checkpoint."""
    (checkpoint / "checkpoint.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        damage_heldout,
        empty_heldout,
        foreign_heldout,
        unknown_label,
        no_gold,
        cut_weights,
        garbled_tokenizer,
        unfinished,
    ],
)
def test_failed_export_keeps_the_old_bundle(
    ours_alone: Path, bundle: Path, tmp_path: Path, damage: Any
) -> None:
    """An export that fails in any way is a message, keeps the older bundle and leaves no trace."""
    check_failed_export(ours_alone, bundle, tmp_path, damage)


@pytest.mark.parametrize("damage", [wrong_span, nan_weights])
def test_failure_at_the_last_task_keeps_the_old_bundle(
    ours: Path, bundle: Path, tmp_path: Path, damage: Any
) -> None:
    """The same where the files of another task are already written."""
    check_failed_export(ours, bundle, tmp_path, damage)


def check_failed_export(checkpoint: Path, bundle: Path, folder: Path, damage: Any) -> None:
    """Export a damaged checkpoint over a copy of the bundle."""
    output = folder / "published"
    shutil.copytree(bundle, output)
    before = folder_contents(output)
    damage(checkpoint)
    result = export_classifier(checkpoint, "--output", output)

    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "Error: " in result.output
    assert folder_contents(output) == before
    assert {path.name for path in folder.iterdir()} == {"checkpoint", "published"}


def test_failed_first_export_leaves_nothing(ours: Path, tmp_path: Path) -> None:
    """Without an older bundle nothing appears under the name."""
    damage_heldout(ours)

    with pytest.raises(CheckpointError, match=r"entity_framing\.parquet: cannot be read"):
        export_checkpoint(ours, tmp_path / "bundle", precisions=["fp32"])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
