"""What keeps task kinds apart from the rest: equal registries, and no kind named elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from batch.kinds import BATCH_KINDS
from exporter.kinds import EXPORTER_KINDS
from schemas.kinds import KINDS
from trainer.kinds import TRAINER_KINDS

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "trainer", "exporter", "batch", "narrascan")
KIND_FOLDER = "kinds"


def modules(*, of_kinds: bool) -> list[Path]:
    """Modules inside the folders of kinds, or all others, relative to the repository."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    relative = [path.relative_to(ROOT) for path in paths]
    return [path for path in relative if (KIND_FOLDER in path.parts) == of_kinds]


def mentions(source: str, names: Collection[str]) -> list[tuple[int, str]]:
    """Line and name of each string of a source text that is a name, or has it in an f-string.

    In a part of an f-string a name counts as a whole word, in any other string only alone.
    Docstrings do not count.
    """
    nodes = list(ast.walk(ast.parse(source)))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    return [
        (node.lineno, word)
        for node in nodes
        if isinstance(node, ast.Constant) and id(node) not in docstrings
        for word in _words(node.value, in_f_string=id(node) in parts)
        if word in names
    ]


def _words(value: object, *, in_f_string: bool) -> Iterator[str]:
    if isinstance(value, str):
        yield from re.findall(r"\w+", value) if in_f_string else [value]


def test_every_registry_has_the_same_kinds() -> None:
    """A kind that one package knows is known to all, under the name that it has itself."""
    assert set(KINDS) == set(TRAINER_KINDS) == set(EXPORTER_KINDS) == set(BATCH_KINDS)
    assert [kind.NAME for kind in KINDS.values()] == list(KINDS)


def test_no_kind_is_named_outside_its_modules() -> None:
    """Code outside the folders of kinds asks the kind, and compares no name with that of one."""
    named = [
        f"{path}:{line}: {name!r}"
        for path in modules(of_kinds=False)
        for line, name in mentions((ROOT / path).read_text(encoding="utf-8"), KINDS)
    ]

    assert named == []


def test_every_kind_is_named_in_its_modules() -> None:
    """The search reads the real files: it finds the name that each kind has in `schemas`."""
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in modules(of_kinds=True)]
    named = {name for text in texts for _, name in mentions(text, KINDS)}

    assert named == set(KINDS)
    assert {path.parts[0] for path in modules(of_kinds=False)} == set(PACKAGES)


@pytest.mark.parametrize(
    "source",
    [
        "if task.kind == 'nearest': pass",
        "match task.kind:\n    case 'nearest': pass",
        "kind: Literal['nearest'] = default",
        "run(kind='nearest')",
        "table = {'nearest': 1}",
        "key = f'{prefix}.nearest.{field}'",
        "key = f'nearest-{field}'",
        "key = f'{field:nearest}'",
    ],
)
def test_kind_in_a_source_text_is_reported(source: str) -> None:
    """A comparison, an annotation, an argument, a key, a part of an f-string: all are strings."""
    assert [name for _, name in mentions(source, {"nearest", "token"})] == ["nearest"]


@pytest.mark.parametrize(
    "source",
    [
        "'''nearest'''\nvalue = 1",
        "def choose() -> None:\n    '''nearest'''",
        "class Choice:\n    rule: str\n    '''nearest'''",
        "value = nearest(1)  # 'nearest'",
        "text = 'the nearest label'",
        "text = f'the {nearest} label, nearestly'",
        "value = b'nearest'",
    ],
)
def test_other_uses_of_the_word_are_not_reported(source: str) -> None:
    """Docstrings, comments, identifiers, longer texts and longer words name no kind."""
    assert mentions(source, {"nearest", "token"}) == []
