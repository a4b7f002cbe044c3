"""The kinds of inputs that fuzzing makes: seed and number determine what is changed, and how."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from tests.robustness.fuzz.mutations import (
    damage,
    damage_folder,
    damage_graph,
    damage_json_file,
    damage_metadata,
    parquet_windows,
    vouch,
)
from tests.robustness.fuzz.odd_tables import with_odd_columns, with_odd_values
from tests.robustness.fuzz.surroundings import (
    Surroundings,
    Tree,
    broken_streams,
    other_processor,
    random_signal,
)

ANY_EXIT = frozenset(range(6))
TASKS = ("narrative", "entity_framing")


@dataclass(frozen=True)
class Ground:
    """What all cases start from; none of them changes it.

    Holds a signed bundle, its public key, corpora in several encodings, and the output folders of
    a finished run, of two shards of it, and of a run with a cache.
    """

    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def public_key(self) -> Path:
        return self.folder / "key.pub"

    @property
    def corpora(self) -> list[Path]:
        return sorted((self.folder / "corpora").glob("*.parquet"))

    @property
    def corpus(self) -> Path:
        """What the finished runs scored."""
        return self.corpora[0]

    @property
    def finished(self) -> Path:
        return self.folder / "finished"

    @property
    def finished_pair(self) -> Path:
        """Output folder of a finished run over the first two corpora."""
        return self.folder / "finished-pair"

    @property
    def shards(self) -> list[Path]:
        return [self.folder / "shard-1", self.folder / "shard-2"]

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


@dataclass(frozen=True)
class Case:
    """One command line.

    allowed: exit codes that are right. story: what was changed. surroundings: of a real process;
    None runs the case in that of the worker. tree: corpus folder of which every file must be
    scored, or named as left out.
    """

    words: tuple[str, ...]
    output: Path
    story: str
    allowed: frozenset[int] = ANY_EXIT
    surroundings: Surroundings | None = None
    tree: Path | None = None


class NotMadeError(Exception):
    """Arrow itself cannot write this input."""


def make_case(ground: Ground, seed: int, number: int, folder: Path) -> Case:
    """Make case `number` in an empty folder. Raises NotMadeError."""
    try:
        return KINDS[kind_of(number)](ground, folder, Random(f"{seed}/{number}"))
    except (pa.ArrowException, NotImplementedError, UnicodeEncodeError) as error:
        raise NotMadeError(str(error)) from error


def kind_of(number: int) -> str:
    """The kind of a case; each has its share of any few dozen numbers in a row."""
    return TURNS[number % len(TURNS)]


def run_words(ground: Ground, *corpus: Path | str) -> tuple[str, ...]:
    """A command line without an output folder; its chunks are small, so that there are some."""
    words = (*map(str, corpus), "--bundle", str(ground.bundle), "--device", "cpu")
    return (*words, "--threads", "1", "--chunk-rows", "5")


def _case(
    ground: Ground, folder: Path, corpus: Path | str, story: str, *options: str | Path
) -> Case:
    output = folder / "scored"
    words = (*run_words(ground, corpus), "--output", str(output), *map(str, options))
    return Case(words, output, story)


def _some_options(chance: Random) -> list[str]:
    """A task, and options that lead through other parts of the code."""
    task = chance.choice(TASKS)
    options = ["--task", task]
    if chance.random() < 0.3:
        options += ["--gold-column", "roles" if task == TASKS[1] else "narratives"]
    if chance.random() < 0.03:
        options += ["--gold-column", chance.choice(("domain", "labels", "roles", "start"))]
    if chance.random() < 0.5:
        options += ["--ignore-unknown-gold"]
    for option, values in {
        "--domain-column": ("published_at", "article_id", "text", "start", "labels"),
        "--id-column": ("domain", "text", "reason"),
        "--title-column": ("domain", "entity"),
        "--text-column": ("title", "entity"),
        "--max-quarantined": ("0", "1"),
        "--log-format": ("json",),
        "--shard": ("1/2", "2/2"),
    }.items():
        if chance.random() < 0.08:
            options += [option, chance.choice(values)]
    for flag in ("--keep-text", "--dry-run"):
        if chance.random() < 0.1:
            options += [flag]
    return options


def corpus_bytes(ground: Ground, folder: Path, chance: Random) -> Case:
    """A Parquet file with damaged bytes, in its footer, its pages or its end."""
    source = chance.choice(ground.corpora)
    raw = source.read_bytes()
    path = folder / "corpus.parquet"
    path.write_bytes(damage(raw, chance, parquet_windows(raw)))
    return _case(ground, folder, path, f"bytes of {source.name}", *_some_options(chance))


def corpus_schema(ground: Ground, folder: Path, chance: Random) -> Case:
    """Columns of odd types and names, alone or beside a file that is as it should be."""
    return _odd_corpus(ground, folder, chance, with_odd_columns)


def corpus_values(ground: Ground, folder: Path, chance: Random) -> Case:
    """Odd values in columns of usable types."""
    return _odd_corpus(ground, folder, chance, with_odd_values)


def _odd_corpus(
    ground: Ground, folder: Path, chance: Random, change: Callable[[pa.Table, Random], pa.Table]
) -> Case:
    table = pq.read_table(chance.choice(ground.corpora)).slice(0, chance.choice((0, 1, 6, 12)))
    below = chance.choice((".", ".", ".", "dt=2026-01-01", "status=1", "k=%00%FF", "text=a"))
    path = folder / "corpus" / below / "b.parquet"
    path.parent.mkdir(parents=True)
    odd = change(table, chance)
    compression = chance.choice(("none", "snappy", "zstd", "gzip"))
    pq.write_table(odd, path, compression=compression, row_group_size=chance.choice((1, 4, 100)))
    if chance.random() < 0.3:
        shutil.copyfile(ground.corpus, path.with_name(chance.choice("ac") + ".parquet"))
    story = f"{change.__name__}: {odd.schema.to_string(show_schema_metadata=False)[:600]}"
    return _case(ground, folder, folder / "corpus", story, *_some_options(chance))


def _copied(ground: Ground, folder: Path) -> Path:
    return Path(shutil.copytree(ground.bundle, folder / "bundle"))


def _with_bundle(ground: Ground, folder: Path, task: str, story: str, *options: str) -> Case:
    """A run with the bundle in the folder of the case, with either engine."""
    words = ("--task", task, "--bundle", str(folder / "bundle"), *options)
    if int(folder.name) % 3 == 0:
        words += ("--precision", "bf16")
    return _case(ground, folder, ground.corpus, story, *words)


def bundle_changed(ground: Ground, folder: Path, chance: Random) -> Case:
    """A damaged file that the manifest or the signature does not fit: always refused."""
    bundle, task = _copied(ground, folder), chance.choice(TASKS)
    if chance.random() < 0.5:
        names, options = [f"{task}.onnx", "tokenizer.json"], []
    else:
        names = sorted(path.name for path in bundle.iterdir())
        options = ["--require-signature", str(ground.public_key)]
    path = bundle / chance.choice(names)
    before = path.read_bytes()
    after = before
    while after == before:
        after = damage(before, chance)
    path.write_bytes(after)
    case = _with_bundle(ground, folder, task, f"bytes of {path.name}, no hash fits", *options)
    allowed = ANY_EXIT if path.suffix == ".sig" else frozenset({1})  # some bytes of it say nothing
    return Case(case.words, case.output, case.story, allowed)


def bundle_bytes(ground: Ground, folder: Path, chance: Random) -> Case:
    """Damaged bytes of a graph or of the tokenizer, with hashes to fit."""
    bundle, task = _copied(ground, folder), chance.choice(TASKS)
    path = bundle / chance.choice((f"{task}.onnx", f"{task}.onnx", "tokenizer.json"))
    raw = path.read_bytes()
    edge = min(len(raw), 20_000)
    windows = ((0, len(raw)), (0, edge), (len(raw) - edge, len(raw)))
    path.write_bytes(damage(raw, chance, windows))
    if path.suffix == ".json":
        vouch(bundle, tokenizer_too=True)
    else:
        vouch(bundle)
    return _with_bundle(ground, folder, task, f"bytes of {path.name}, hashes fit")


def bundle_graph(ground: Ground, folder: Path, chance: Random) -> Case:
    """A well-formed graph that makes no sense, with hashes to fit."""
    bundle, task = _copied(ground, folder), chance.choice(TASKS)
    damage_graph(bundle / f"{task}.onnx", chance)
    vouch(bundle)
    return _with_bundle(ground, folder, task, f"graph of {task}.onnx, hashes fit")


def bundle_metadata(ground: Ground, folder: Path, chance: Random) -> Case:
    """What a graph says of itself, changed, with hashes to fit."""
    bundle, task = _copied(ground, folder), chance.choice(TASKS)
    damage_metadata(bundle / f"{task}.onnx", chance)
    vouch(bundle)
    options = ("--gold-column", "narratives") if chance.random() < 0.3 else ()
    return _with_bundle(ground, folder, task, f"metadata of {task}.onnx, hashes fit", *options)


def bundle_json(ground: Ground, folder: Path, chance: Random) -> Case:
    """Changed values of the tokenizer, with hashes to fit, or of the manifest itself."""
    bundle, task = _copied(ground, folder), chance.choice((*TASKS, "narrative,entity_framing"))
    name = chance.choice(("tokenizer.json", "bundle.json"))
    damage_json_file(bundle / name, chance)
    if name == "tokenizer.json":
        vouch(bundle, tokenizer_too=True)
    return _with_bundle(ground, folder, task, f"values of {name}")


def resumed(ground: Ground, folder: Path, chance: Random) -> Case:
    """The output folder of an interrupted or finished run, damaged and then resumed."""
    output = folder / "scored"
    shutil.copytree(ground.finished, output)
    if chance.random() < 0.7:
        (output / "run.json").unlink()
    state = output / chance.choice((".", ".", ".narrascan", ".narrascan/done"))
    changed = damage_folder(state, chance)
    if chance.random() < 0.5:
        changed += _damage_stats(output, chance)
    _add_litter(output, chance)
    words = ("--task", "narrative", "--gold-column", "narratives")
    again = ("--overwrite",) if chance.random() < 0.1 else ()
    return _case(ground, folder, ground.corpus, f"resumed: {changed}", *words, *again)


def _damage_stats(output: Path, chance: Random) -> list[str]:
    """Change the statistics of one marker, which still vouches for its part."""
    markers = [path for path in (output / ".narrascan" / "done").glob("*.json") if path.is_file()]
    path = chance.choice(sorted(markers)) if markers else None
    if path is None:
        return []
    try:
        marker = json.loads(path.read_bytes())
        stats = path.with_name("stats.tmp")
        stats.write_text(json.dumps(marker["stats"]), encoding="utf-8")
        damage_json_file(stats, chance)
        raw = stats.read_text(encoding="utf-8", errors="replace")
        stats.unlink()
        marker["stats"] = "@stats@"
        path.write_text(json.dumps(marker).replace('"@stats@"', raw), encoding="utf-8")
    except (ValueError, KeyError, TypeError, RecursionError):  # it is damaged already
        return []
    return [f"stats of {path.name}"]


def _add_litter(output: Path, chance: Random) -> None:
    """What a killed run, or another program, may leave behind."""
    work = output / ".narrascan"
    for path in (
        work / "scratch" / ".part-00000.parquet.tmp",
        output / ".run.json.tmp",
        work / "done" / ".00001.json.tmp",
        work / "owner.json",
        work / "done" / "x.json",
        work / "done" / f"{'9' * 5000}.json",
    ):
        if chance.random() < 0.15 and len(path.name) < 250 and not path.exists():
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(chance.choice((b"", b"{}", b"\xff" * 50)))


def merged(ground: Ground, folder: Path, chance: Random) -> Case:
    """Shards of which one is damaged, merged."""
    shards = [
        Path(shutil.copytree(shard, folder / f"shard-{number}"))
        for number, shard in enumerate(ground.shards, 1)
    ]
    changed = damage_folder(chance.choice(shards), chance)
    if chance.random() < 0.3:
        changed += _damage_stats(chance.choice(shards), chance)
    output = folder / "scored"
    words = ("merge", *map(str, shards), "--output", str(output))
    return Case(words, output, f"merged: {changed}")


def cached(ground: Ground, folder: Path, chance: Random) -> Case:
    """A damaged cache of scores: the run goes on without it."""
    cache = Path(shutil.copytree(ground.cache, folder / "cache"))
    changed = damage_folder(cache, chance)
    words = ("--task", "narrative", "--cache", str(cache))
    case = _case(ground, folder, ground.corpus, f"cache: {changed}", *words)
    return Case(case.words, case.output, case.story, frozenset({0}))


def corpus_tree(ground: Ground, folder: Path, chance: Random) -> Case:
    """A folder with links, hidden names, partitions, pipes and tables of a table format."""
    top = folder / "corpus"
    story = Tree(top, ground.corpora, chance).make()
    pattern = chance.choice(("", "", "", "/*", "/**/*.parquet"))
    words = ("--task", "narrative", "--max-quarantined", "1", "--ignore-unknown-gold")
    case = _case(ground, folder, f"{top}{pattern}", f"tree: {story}", *words)
    return replace(case, tree=None if pattern else top)


def surroundings(ground: Ground, folder: Path, chance: Random) -> Case:
    """A signal at any stage, broken streams, inputs in another order, another processor."""
    match chance.randrange(4):
        case 0:
            return _resumed_process(ground, folder, random_signal(chance), {0, 4})
        case 1:
            return _resumed_process(ground, folder, broken_streams(chance), {0})
        case 2:
            return _resumed_process(ground, folder, other_processor(), {1})
        case _:
            return _resumed_process(ground, folder, Surroundings(), {1}, reverse=True)


def _resumed_process(
    ground: Ground,
    folder: Path,
    process: Surroundings,
    allowed: set[int],
    *,
    reverse: bool = False,
) -> Case:
    """A run over two corpora that lacks its last chunks, resumed by a real process."""
    output = folder / "scored"
    shutil.copytree(ground.finished_pair, output)
    (output / "run.json").unlink()
    for marker in sorted((output / ".narrascan" / "done").glob("*.json"))[2:]:
        marker.unlink()
    files = ground.corpora[:2]
    words = (
        *run_words(ground, *(reversed(files) if reverse else files)),
        *("--task", "narrative", "--max-quarantined", "1", "--output", str(output)),
    )
    story = f"process: {process}, inputs {'in another order' if reverse else 'as before'}"
    return Case(words, output, story, frozenset(allowed), surroundings=process)


KINDS: dict[str, Callable[[Ground, Path, Random], Case]] = {
    "corpus bytes": corpus_bytes,
    "corpus schema": corpus_schema,
    "corpus values": corpus_values,
    "bundle changed": bundle_changed,
    "bundle bytes": bundle_bytes,
    "bundle graph": bundle_graph,
    "bundle metadata": bundle_metadata,
    "bundle json": bundle_json,
    "resumed": resumed,
    "merged": merged,
    "cached": cached,
    "corpus tree": corpus_tree,
    "surroundings": surroundings,
}

TURNS = (
    *("corpus bytes", "corpus schema", "corpus values", "resumed", "bundle metadata"),
    *("corpus bytes", "corpus schema", "corpus values", "bundle bytes", "bundle changed"),
    *("corpus bytes", "corpus schema", "corpus values", "resumed", "bundle json"),
    *("bundle graph", "bundle metadata", "merged", "resumed", "cached"),
    *("corpus tree", "corpus tree", "surroundings"),
)
