"""What the tests of the scorer share: corpora on disk, finished runs, folders to compare."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.props import from_props
from tests.batch.planning import kept
from tests.tiny import SAMPLES

Command = Callable[..., Result]


@pytest.fixture(scope="session")
def sample() -> pa.Table:
    """48 articles of the samples, cut to many lengths, as plain Arrow strings."""
    table = pq.read_table(SAMPLES / "articles.parquet").slice(0, 48)
    rng = random.Random(5)
    texts = [text[: rng.randint(10, 450)] for text in table.column("text").to_pylist()]
    columns = {
        "article_id": table.column("article_id").cast(pa.string()),
        "title": table.column("title").cast(pa.string()),
        "text": pa.array(texts, pa.string()),
        "domain": table.column("domain").cast(pa.string()),
        "published_at": table.column("published_at"),
        "narratives": table.column("narratives").cast(pa.list_(pa.string())),
    }
    return pa.table(columns)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes columns as Parquet into the test's folder and returns the path."""

    def write(columns: Any, name: str = "corpus.parquet", **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, path, **options)
        return path

    return write


@pytest.fixture
def both(write: Callable[..., Path]) -> Callable[..., pa.ChunkedArray]:
    """Column `c` of predictions for one file a column, each written with another type."""

    def both(*columns: pa.Array) -> pa.ChunkedArray:
        files = [
            write({"text": ["aid"] * len(column), "c": column}, f"{number}.parquet")
            for number, column in enumerate(columns)
        ]
        return kept(*files).column("c")

    return both


@pytest.fixture
def score(batch_classify: Command, tmp_path: Path) -> Callable[..., pa.Table]:
    """Scores a corpus, expects exit 0, and returns the predictions of all parts."""
    runs = iter(range(1000))

    def score(*corpus: Path | str, **options: Any) -> pa.Table:
        options.setdefault("output", tmp_path / f"scored-{next(runs)}")
        result = batch_classify(*corpus, **options)
        assert result.exit_code == 0, result.output
        return _read_parts(options["output"] / "predictions")

    return score


@pytest.fixture(scope="session")
def words(bundle: Path) -> Callable[..., list[str]]:
    """The command line that `batch_classify` runs in this process, for a process of its own."""

    def words(*corpus: Path | str, **options: Any) -> list[str]:
        options = {"task": "narrative", "bundle": bundle, "device": "cpu", **options}
        command = [str(Path(sys.executable).with_name("batch-classify")), *map(str, corpus)]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            values = value if isinstance(value, list) else [value]
            command += [flag] if value is True else [w for one in values for w in (flag, str(one))]
        return command

    return words


@pytest.fixture
def read_parts() -> Callable[[Path], pa.Table]:
    """Reads every part of a folder, in order."""
    return _read_parts


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file of an output folder, hidden ones too, by name; `timings` left out of run.json."""
    return _contents


@pytest.fixture
def edit_bundle(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies the bundle with other ONNX metadata or other files, and a manifest that fits them."""

    def edit(*, props: dict[str, object] | None = None, **files: bytes) -> Path:
        folder = tmp_path / "edited-bundle"
        shutil.copytree(bundle, folder)
        if props:
            _edit_props(folder / "narrative.onnx", props)
        for stem, content in files.items():
            (folder / stem.replace("_json", ".json").replace("_onnx", ".onnx")).write_bytes(content)
        manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        for name in manifest["files"]:
            content = (folder / name).read_bytes()
            facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            manifest["files"][name] = facts
        (folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
        return folder

    return edit


def _read_parts(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.iterdir())])


def _contents(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    if "run.json" in found:
        record = json.loads(found["run.json"])
        record.pop("timings")
        found["run.json"] = json.dumps(record).encode()
    return found


def _edit_props(path: Path, props: dict[str, object]) -> None:
    model = onnx.load(path)
    for prop in model.metadata_props:
        name = prop.key.removeprefix("narrascan.")
        if name in props:
            prop.value = json.dumps(props[name], ensure_ascii=False)
    onnx.save(model, path)


@pytest.fixture(scope="session")
def metadata(bundle: Path) -> ArtefactMetadata:
    """What the ONNX file of the task says of itself."""
    path = str(bundle / "narrative.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    props = session.get_modelmeta().custom_metadata_map
    return from_props(props, source=path)["narrative"]
