"""Labels that are not what they seem: lists written as text, spellings that only look alike.

Training, recalibration and `--gold-column` check labels by these rules; docs/how-it-works.md states
them.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from schemas.errors import DataError, nearest
from schemas.text.arrow_text import BadText

EXAMPLES = 3
"""Labels that a message shows of one kind of problem."""

MAX_LIST_CHARS = 10_000
"""A longer label is not parsed as a list."""

_SEPARATORS = re.compile(r"[,;|\t\n\u060c\u061b\u3001\uff0c\uff1b]")
"""Comma, semicolon, pipe, tab and line break, with the Arabic and Chinese commas."""

_NUMPY_LIST = re.compile(r"\[(?:\s*(?:'[^']*'|\"[^\"]*\"))+\s*\]")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}

_JOINERS = re.compile("[\u200c\u200d\ufe0f]")
"""Invisible characters that Persian, Hindi and emoji are spelled with."""

_MISSING = frozenset({"nan", "none", "null", "<na>", "na", "n/a", "nat", "#n/a"})
"""What programs write for a missing value, in lower case."""

_SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK"})
"""Alphabets whose letters look like each other."""


@dataclass(frozen=True)
class LabelUse:
    """How often a label occurs, and the first row that has it, as a message names it."""

    rows: int
    first: str


def count_labels(gold: Iterable[Sequence[str]], row_names: Iterable[str]) -> dict[str, LabelUse]:
    """Count every label, in order of first appearance.

    Raises DataError with the row for a label that is blank or is not UTF-8.
    """
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for labels, row in zip(gold, row_names, strict=True):
        for label in labels:
            if label not in first:
                _refuse_unusable(label, row)
                first[label] = row
        counts.update(set(labels))
    return {label: LabelUse(counts[label], row) for label, row in first.items()}


def refuse_unusable_labels(uses: Mapping[str, LabelUse], listed: Sequence[str] = ()) -> None:
    """Refuse lists that are written as text, and labels that only look alike.

    listed: labels that the config names; what is listed is meant, also if it looks like a list.
    Raises DataError with examples, each with its first row.
    """
    refuse_lists_as_text(uses, listed)
    refuse_lookalikes(uses, listed)


def refuse_lists_as_text(uses: Mapping[str, LabelUse], listed: Sequence[str] = ()) -> None:
    """Refuse labels that are whole lists: JSON or Python lists, and `aid, war` beside `aid`, `war`.

    Text with separators counts as a list only where every part is a label of other rows, as a label
    may hold a comma. Raises DataError with examples.
    """
    judged = _unlisted(uses, listed)
    lists = [label for label in judged if is_list_literal(label)]
    lists += [label for label in _separated_lists(judged, uses) if label not in lists]
    if lists:
        raise DataError(
            f"{len(lists)} labels are lists written as text: {_examples(lists, uses)}",
            hint="write the column as a list of strings: split the text before it is saved, or in "
            "SQL with string_split or from_json; a label that is meant so is listed under `labels`",
        )


def refuse_lookalikes(uses: Mapping[str, LabelUse], listed: Sequence[str] = ()) -> None:
    """Refuse different labels that look alike, because training makes two outputs of them.

    listed: labels that the config names; two of those may differ in case alone.
    Raises DataError with both spellings, their first rows and the code points that differ.
    """
    meant = frozenset(listed)
    groups: dict[str, list[str]] = defaultdict(list)
    for label in dict.fromkeys([*listed, *uses]):
        groups[look(label)].append(label)
    pairs = [
        (one, other)
        for one, *others in groups.values()
        for other in others
        if not (one in meant and other in meant and one.lower() == other.lower())
    ]
    if pairs:
        shown = "; ".join(_pair(one, other, uses) for one, other in pairs[:EXAMPLES])
        more = f"; and {len(pairs) - EXAMPLES} more" if len(pairs) > EXAMPLES else ""
        raise DataError(
            f"{len(pairs)} pairs of labels look alike but are different text: {shown}{more}",
            hint="write each label in one spelling: the same Unicode form (NFC), case and blanks",
        )


def label_warnings(uses: Mapping[str, LabelUse], listed: Sequence[str] = ()) -> Iterator[str]:
    """What is odd but may be meant, one line for each kind; listed labels are meant."""
    judged = _unlisted(uses, listed)
    odd = {
        "labels contain a separator; are they lists written as text?": _separated(judged),
        "labels have outer or doubled blanks, invisible characters or a decomposed Unicode form:": [
            label for label in judged if _JOINERS.sub("", label) != _visible(label)
        ],
        "labels mix letters of several alphabets in one word:": [
            label for label in judged if _mixes_alphabets(label)
        ],
        "labels look like missing values written as text:": [
            label for label in judged if label.strip().casefold() in _MISSING
        ],
    }
    for what, labels in odd.items():
        if labels:
            yield f"{len(labels)} {what} {_examples(labels, uses)}"


def unknown_label_hint(label: str, known: Collection[str]) -> str | None:
    """Which known label is meant by an unknown one; by code points where the two look alike."""
    mistake = mistaken_label(label, known)
    if mistake is not None:
        return mistake
    close = nearest(label, known)
    return f"did you mean {close!r}?" if close else None


def mistaken_label(label: str, known: Collection[str]) -> str | None:
    """Why an unknown label is a mistake also where other labels are ignored; None if it is not.

    known: the labels of a model or of a config.
    """
    parts = _parts(label)
    if is_list_literal(label) or (len(parts) > 1 and all(part in known for part in parts)):
        return "it is a list written as text: write the column as a list of strings"
    alike = look_alike(label, known)
    if alike is None:
        return None
    return f"it looks like {alike!r}, but is different text: {difference(label, alike)}"


def look_alike(label: str, known: Iterable[str]) -> str | None:
    """The known label that looks the same, if there is one."""
    wanted = look(label)
    return next((name for name in known if name != label and look(name) == wanted), None)


@lru_cache(maxsize=65536)
def look(label: str) -> str:
    """What a reader sees of a label, whatever its Unicode form, case, blanks and invisible
    characters: equal for labels that look alike.
    """
    folded = unicodedata.normalize("NFKC", _visible(label)).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def difference(label: str, other: str) -> str:
    """Where two labels differ, by code points: `U+00E9 against U+0065 U+0301 at character 0`."""
    start = 0
    while start < min(len(label), len(other)) and label[start] == other[start]:
        start += 1
    end = 0
    while end < min(len(label), len(other)) - start and label[-1 - end] == other[-1 - end]:
        end += 1
    parts = (_code_points(text[start : len(text) - end]) for text in (label, other))
    return f"{' against '.join(parts)} at character {start}"


def is_list_literal(label: str) -> bool:
    """True for text that is a JSON, Python or numpy list, tuple, set or object."""
    text = label.strip()
    if not text or _BRACKETS.get(text[0]) != text[-1] or len(text) > MAX_LIST_CHARS:
        return False
    if _NUMPY_LIST.fullmatch(text):
        return True
    try:
        return isinstance(json.loads(text), list | dict)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # of the parser, which a label need not heed
            return isinstance(ast.literal_eval(text), list | tuple | set | dict)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def _refuse_unusable(label: str, row: str) -> None:
    if isinstance(label, BadText):
        raise DataError(f"{row}: unusable label: {label}", hint="correct this row, or leave it out")
    if not label.strip():
        raise DataError(
            f"{row}: a label is blank: {label!r}",
            hint="name it, or remove it; a row to which no label applies has an empty list",
        )


def _unlisted(uses: Iterable[str], listed: Iterable[str]) -> list[str]:
    meant = frozenset(listed)
    return [label for label in uses if label not in meant]


def _separated(labels: Iterable[str]) -> list[str]:
    return [label for label in labels if _SEPARATORS.search(label)]


def _separated_lists(judged: Sequence[str], uses: Mapping[str, LabelUse]) -> list[str]:
    """Labels in brackets or of several parts, where each part is a label, or a part of others."""
    parts = {label: _parts(label) for label in judged}
    lists = {label: of for label, of in parts.items() if len(of) > 1 or of[:1] != [label.strip()]}
    sources = Counter(part for of in lists.values() for part in set(of))
    return [
        label
        for label, of in lists.items()
        if of and all(part in uses or sources[part] > 1 for part in of)
    ]


def _parts(label: str) -> list[str]:
    text = label.strip()
    if len(text) > 1 and _BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1]
    stripped = (part.strip().strip("'\"") for part in _SEPARATORS.split(text))
    return [part for part in stripped if part]


def _visible(label: str) -> str:
    """The label without invisible characters and outer blanks, in composed form."""
    shown = "".join(character for character in label if not _is_invisible(character))
    return " ".join(unicodedata.normalize("NFC", shown).split())


def _is_invisible(character: str) -> bool:
    point = ord(character)
    return (
        (unicodedata.category(character) in ("Cf", "Cc") and not character.isspace())
        or 0xFE00 <= point <= 0xFE0F  # variation selectors
        or point in (0x034F, 0x115F, 0x1160, 0x3164, 0xFFA0)  # joiner and Hangul fillers
    )


def _mixes_alphabets(label: str) -> bool:
    return any(
        len({_script(letter) for letter in word if letter.isalpha()} & _SCRIPTS) > 1
        for word in re.split(r"\W+", label)
    )


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _code_points(text: str) -> str:
    return " ".join(f"U+{ord(character):04X}" for character in text) or "nothing"


def _pair(one: str, other: str, uses: Mapping[str, LabelUse]) -> str:
    spellings = f"{_example(one, uses)} and {_example(other, uses)}"
    return f"{spellings}: {difference(one, other)}"


def _example(label: str, uses: Mapping[str, LabelUse]) -> str:
    shown = label if len(label) <= 80 else label[:77] + "..."
    use = uses.get(label)
    return f"{shown!r} ({'listed' if use is None else use.first})"


def _examples(labels: Sequence[str], uses: Mapping[str, LabelUse]) -> str:
    more = f" and {len(labels) - EXAMPLES} more" if len(labels) > EXAMPLES else ""
    return ", ".join(_example(label, uses) for label in labels[:EXAMPLES]) + more
