"""What opening a bundle promises."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.bundle.folder import Bundle, BundleManifest
from schemas.errors import BundleError, UsageError
from schemas.io.files import FileFacts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of two tasks whose files hold a few bytes, beside a file that is none of its own."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("narrative.onnx", "topics.onnx", "tokenizer.json", "MODEL_CARD.md"):
        (folder / name).write_text(f"this is {name}")
    (tmp_path / "secret.onnx").write_text("not yours")
    manifest = BundleManifest(
        tasks={"narrative": {"fp32": "narrative.onnx"}, "topics": {"fp32": "topics.onnx"}},
        files={path.name: FileFacts.of(path) for path in folder.iterdir()},
    )
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    return folder


def rewrite(folder: Path, **changes: Any) -> None:
    """Change fields of the manifest."""
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def facts(path: Path) -> dict[str, Any]:
    """The facts of a file as the manifest has them."""
    return FileFacts.of(path).model_dump()


def test_untouched_bundle_opens(folder: Path) -> None:
    """Graph and tokenizer are found and every file passes."""
    bundle = Bundle.open(folder)
    bundle.check_all()

    assert bundle.read(bundle.graph_name(("topics",), "fp32")) == b"this is topics.onnx"
    assert bundle.read_tokenizer() == b"this is tokenizer.json"


def test_hash_stands_for_every_file(folder: Path) -> None:
    """The bundle's hash changes with the manifest, which contains the hash of every file."""
    before = Bundle.open(folder).sha256
    (folder / "topics.onnx").write_text("retrained")
    rewrite(
        folder,
        files={
            **json.loads((folder / "bundle.json").read_text())["files"],
            "topics.onnx": facts(folder / "topics.onnx"),
        },
    )

    assert Bundle.open(folder).sha256 != before


@pytest.mark.parametrize("name", ["narrative.onnx", "tokenizer.json", "MODEL_CARD.md"])
def test_changed_file_is_found(folder: Path, name: str) -> None:
    """One changed byte of the same length is enough, and the file is named."""
    path = folder / name
    path.write_bytes(b"T" + path.read_bytes()[1:])

    with pytest.raises(BundleError, match=rf"{name}: changed since the bundle was written"):
        Bundle.open(folder).check_all()


def test_changed_graph_is_not_handed_out(folder: Path) -> None:
    """The check happens when a graph or the tokenizer is asked for."""
    (folder / "topics.onnx").write_text("evil")
    (folder / "tokenizer.json").write_text("evil")
    bundle = Bundle.open(folder)

    assert bundle.read("narrative.onnx") == b"this is narrative.onnx"
    with pytest.raises(BundleError, match=r"topics\.onnx: changed"):
        bundle.read("topics.onnx")
    with pytest.raises(BundleError, match=r"tokenizer\.json: changed"):
        bundle.read_tokenizer()


def test_missing_file_is_found(folder: Path) -> None:
    """A file that is gone is named, with what to do."""
    (folder / "topics.onnx").unlink()

    with pytest.raises(
        BundleError, match=r"topics\.onnx: cannot be read.*\nhint: export"
    ) as caught:
        Bundle.open(folder).read("topics.onnx")
    assert caught.value.hint is not None


def test_unknown_task_suggests_the_nearest(folder: Path) -> None:
    """A misspelt task is answered with the tasks there are and the nearest."""
    with pytest.raises(UsageError, match="unknown task 'topic'") as caught:
        Bundle.open(folder).graph_name(("topic",), "fp32")

    assert "'narrative', 'topics'" in caught.value.message
    assert caught.value.hint == "did you mean 'topics'?"


def test_folder_without_a_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    """An empty folder, a missing one and a file are no bundles."""
    (tmp_path / "file").write_text("")

    for name in ("", "missing", "file"):
        with pytest.raises(BundleError, match="no bundle here") as caught:
            Bundle.open(tmp_path / name)
        assert "export-classifier" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"not json"])
def test_manifest_that_is_not_json_is_refused(folder: Path, content: bytes) -> None:
    """A manifest cut short or overwritten is reported as such."""
    (folder / "bundle.json").write_bytes(content)

    with pytest.raises(BundleError, match=r"bundle\.json: not JSON"):
        Bundle.open(folder)


@pytest.mark.parametrize("content", ["[]", "null", '"bundle"', "3"])
def test_manifest_that_is_no_object_is_refused(folder: Path, content: str) -> None:
    """JSON of another kind is not a manifest."""
    (folder / "bundle.json").write_text(content)

    with pytest.raises(BundleError, match="a JSON object is expected"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version 2 is newer than 1"),
        ({"schema_version": None}, "schema_version is None"),
        ({"tasks": {"Topics": "topics.onnx"}}, "not a task name"),
        ({"tasks": ["topics"]}, "not a valid manifest"),
        ({"files": {"topics.onnx": {"sha256": "ab"}}}, "not a valid manifest"),
        ({"color": "red"}, "not a valid manifest"),
    ],
)
def test_wrong_manifest_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    """A newer, incomplete or extended manifest is refused when the bundle is opened."""
    rewrite(folder, **changes)

    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.onnx",
        "./topics.onnx",
        "sub/topics.onnx",
        "..",
        ".",
        "",
        "a\\b",
        "c:b",
        "a\0",
        "a\n",
    ],
)
def test_path_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    """A manifest cannot lead to another folder, even with the right hash."""
    listed = {**json.loads((folder / "bundle.json").read_text())["files"]}
    listed[name] = facts(folder.parent / "secret.onnx")
    rewrite(folder, tasks={"topics": {"fp32": name}}, files=listed)

    with pytest.raises(BundleError, match="is not a plain file name"):
        Bundle.open(folder)


def test_absolute_path_is_refused(folder: Path) -> None:
    """Nor can it lead to an absolute path."""
    secret = folder.parent / "secret.onnx"
    rewrite(folder, tasks={"topics": {"fp32": str(secret)}}, files={str(secret): facts(secret)})

    with pytest.raises(BundleError, match="is not a plain file name"):
        Bundle.open(folder)


def test_task_whose_file_is_not_listed_is_refused(folder: Path) -> None:
    """A graph without a hash is not served."""
    rewrite(folder, files={"tokenizer.json": facts(folder / "tokenizer.json")})

    with pytest.raises(BundleError, match=r"file 'narrative\.onnx' is not listed"):
        Bundle.open(folder)


@pytest.fixture
def shared(folder: Path) -> Bundle:
    """The bundle with a third task, and a graph that two of the three share."""
    for name in ("roles.onnx", "shared-topics.onnx"):
        (folder / name).write_text(f"this is {name}")
    stored = json.loads((folder / "bundle.json").read_text())
    rewrite(
        folder,
        tasks={**stored["tasks"], "roles": {"fp32": "roles.onnx"}},
        shared=[{"tasks": ["topics", "roles"], "files": {"fp32": "shared-topics.onnx"}}],
        files={path.name: facts(path) for path in folder.iterdir() if path.name != "bundle.json"},
    )
    return Bundle.open(folder)


@pytest.mark.parametrize(
    ("wanted", "tasks"),
    [
        ("topics", ("topics",)),
        ("roles,topics", ("topics", "roles")),
        (" roles , narrative", ("narrative", "roles")),
        ("all", ("narrative", "topics", "roles")),
    ],
)
def test_tasks_are_selected_in_the_order_of_the_bundle(
    shared: Bundle, wanted: str, tasks: tuple[str, ...]
) -> None:
    """One name, several with commas, or all; how they were ordered makes no difference."""
    assert shared.select(wanted) == tasks


def test_task_called_all_is_that_task(folder: Path) -> None:
    """`all` means every task only where no task has that name."""
    stored = json.loads((folder / "bundle.json").read_text())
    rewrite(folder, tasks={**stored["tasks"], "all": {"fp32": "topics.onnx"}})

    assert Bundle.open(folder).select("all") == ("all",)


@pytest.mark.parametrize("wanted", ["", "topics,", "topics,topics", "topics,topic", "topics;roles"])
def test_selection_that_cannot_be_is_refused(shared: Bundle, wanted: str) -> None:
    """Nothing, a task twice, and names that are not there."""
    with pytest.raises(UsageError, match=r"unknown task|named twice"):
        shared.select(wanted)


def test_tasks_that_share_a_graph_have_it(shared: Bundle) -> None:
    """Several tasks are served by the graph of a group that has them all, one by its own."""
    assert shared.graph_name(("topics", "roles"), "fp32") == "shared-topics.onnx"
    assert shared.graph_name(("topics",), "fp32") == "topics.onnx"
    with pytest.raises(UsageError, match="has no file that tasks 'narrative', 'roles' share"):
        shared.graph_name(("narrative", "roles"), "fp32")
    with pytest.raises(UsageError, match="has tasks 'topics', 'roles' in 'fp32' only"):
        shared.graph_name(("topics", "roles"), "int8")


def test_changed_shared_graph_is_found(shared: Bundle) -> None:
    """It is held to its hash like every other file."""
    (shared.files.folder / "shared-topics.onnx").write_text("evil")

    with pytest.raises(BundleError, match=r"shared-topics\.onnx: changed"):
        shared.read("shared-topics.onnx")


def test_message_about_a_manifest_stays_short(folder: Path) -> None:
    """However many problems it has, and however long what stands in it."""
    rewrite(folder, files={f"{number}/\x1b[31m": {} for number in range(10_000)})

    with pytest.raises(BundleError, match="not a valid manifest") as caught:
        Bundle.open(folder)
    assert len(caught.value.message) < 5000
    assert "more" in caught.value.message
    assert caught.value.message.isprintable()


def test_long_version_is_cut(folder: Path) -> None:
    """A megabyte in the place of a number is not repeated."""
    rewrite(folder, schema_version="9" * 10**6)

    with pytest.raises(BundleError, match="schema_version is '999") as caught:
        Bundle.open(folder)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": [{"tasks": ["topics"], "files": {"fp32": "topics.onnx"}}]}, "at least 2 items"),
        (
            {"shared": [{"tasks": ["topics", "roles"], "files": {"fp32": "topics.onnx"}}]},
            "task 'roles' of a shared graph is not listed",
        ),
        (
            {"shared": [{"tasks": ["topics", "topics"], "files": {"fp32": "topics.onnx"}}]},
            "task 'topics' is listed twice",
        ),
        (
            {"shared": [{"tasks": ["topics", "narrative"], "files": {"fp32": "none.onnx"}}]},
            r"file 'none\.onnx' is not listed",
        ),
        ({"tasks": {"topics": {}}}, "a graph has no fp32 file"),
        ({"tasks": {"topics": {"int8": "topics.onnx"}}}, "a graph has no fp32 file"),
        ({"tasks": {}}, "at least 1 item"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    """Tasks and shared graphs name what is listed, each once."""
    rewrite(folder, **changes)

    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)
