"""What the config of a multi-label task promises about two-level labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.config.files import load_config
from schemas.errors import ConfigError
from tests.label_tasks import options_of

CONFIG = """
[tasks.topics]
labels = ["oil", "gas", "energy", "war"]
parents = {{ {parents} }}
[[tasks.topics.data]]
path = "corpus.parquet"
"""


def config_file(folder: Path, parents: str) -> Path:
    """A config with these parents."""
    path = folder / "config.toml"
    path.write_text(CONFIG.format(parents=parents))
    return path


def test_some_labels_may_have_parents(tmp_path: Path) -> None:
    """Labels without an entry stay as they are."""
    config = load_config(config_file(tmp_path, 'oil = "energy", gas = "energy"'))

    assert options_of(config.tasks["topics"]).parents == {"oil": "energy", "gas": "energy"}


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ('oil = "power"', "parents has 'power', which labels does not list"),
        ('crude = "energy"', "parents has 'crude', which labels does not list"),
        ('oil = "gas", gas = "energy"', "more than two levels: 'oil' -> 'gas' -> 'energy'"),
        ('oil = ""', "parents has a blank label"),
    ],
)
def test_parents_that_are_no_second_level_are_refused(
    tmp_path: Path, parents: str, message: str
) -> None:
    """Before any data is read, with the task and the label or the chain that is wrong."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(config_file(tmp_path, parents))

    assert "tasks.topics" in str(caught.value)


def test_config_without_parents_is_what_it_was(tmp_path: Path) -> None:
    """Its hash, which checkpoints and bundles record, does not know of the key."""
    config = load_config(config_file(tmp_path, ""))

    assert '"parents":' not in config.model_dump_json()
