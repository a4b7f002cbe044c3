"""Labels that are not what they seem: what is refused, what is a warning, and what passes."""

from __future__ import annotations

import re

import pytest

from schemas.errors import DataError
from schemas.tasks.labels import (
    LabelUse,
    count_labels,
    difference,
    is_list_literal,
    label_warnings,
    refuse_unusable_labels,
    unknown_label_hint,
)
from schemas.text.arrow_text import BadText

COMPOSED, DECOMPOSED = "\u00e9conomie", "e\u0301conomie"
SENTENCE = "Blaming the war on others, not the aggressor"


def uses(*labels: str) -> dict[str, LabelUse]:
    """Each label in a row of its own."""
    return count_labels(([label] for label in labels), (f"row {n}" for n in range(len(labels))))


def refusal(*labels: str, listed: tuple[str, ...] = ()) -> str:
    """The message that labels are refused with."""
    with pytest.raises(DataError) as caught:
        refuse_unusable_labels(uses(*labels), listed)
    return str(caught.value)


@pytest.mark.parametrize(
    "label",
    [
        '["aid", "war"]',
        '["aid"]',
        "[]",
        " [ ] ",
        "['aid', 'war']",
        "['aid' 'war']",
        "('aid', 'war')",
        "{'aid'}",
        '{"aid": 1}',
        "[1, 2]",
        "['\\d']",
    ],
)
def test_list_literal_is_refused(label: str) -> None:
    """Text of the shape that JSON, Python or numpy writes for a list is refused with its row."""
    assert is_list_literal(label)

    message = refusal("oil", label)

    assert "lists written as text" in message
    assert f"{label!r} (row 1)" in message


@pytest.mark.parametrize("label", ["[Other]", "(none of these)", "{", "[", "[a", "a]", '"aid"'])
def test_brackets_alone_are_no_list(label: str) -> None:
    """A label may have brackets."""
    assert not is_list_literal(label)
    refuse_unusable_labels(uses("oil", label))


@pytest.mark.parametrize("separator", [",", ", ", ";", "|", " | ", "\t", "\n", "\uff0c", "\u3001"])
def test_separated_labels_are_refused_where_the_parts_are_labels(separator: str) -> None:
    """`aid, war` beside `aid` and `war` is a list."""
    assert "1 labels are lists" in refusal("aid", "war", f"aid{separator}war")


def test_parts_of_other_lists_are_labels() -> None:
    """Rows that all have several labels show by each other that they are lists."""
    assert "3 labels are lists" in refusal("aid,war", "war,oil", "oil,aid")


def test_lists_without_quotes_are_refused() -> None:
    """Java and Spark write lists in brackets, Postgres in braces, and neither quotes strings."""
    assert "2 labels are lists" in refusal("[aid]", "[aid, war]", "war")
    assert "2 labels are lists" in refusal("{aid}", "{aid,war}", "war")


def test_label_with_a_comma_passes() -> None:
    """A comma inside a label is a warning at most, and none where the config lists the label."""
    refuse_unusable_labels(uses(SENTENCE, "oil", "Trade, tariffs", "Trade"))

    assert [line.partition(":")[0] for line in label_warnings(uses(SENTENCE, "oil"))] == [
        f"1 labels contain a separator; are they lists written as text? {SENTENCE!r} (row 0)"
    ]
    assert list(label_warnings(uses(SENTENCE), [SENTENCE])) == []


def test_listed_label_is_meant() -> None:
    """A label that the config lists may look like a list."""
    listed = ("aid", "war", "aid, war", "[]")

    refuse_unusable_labels(uses(*listed), listed)


@pytest.mark.parametrize(
    ("one", "other", "points"),
    [
        (COMPOSED, DECOMPOSED, "U+00E9 against U+0065 U+0301 at character 0"),
        ("aid", "aid ", "nothing against U+0020 at character 3"),
        ("aid", "Aid", "U+0061 against U+0041 at character 0"),
        ("food aid", "food\u00a0aid", "U+0020 against U+00A0 at character 4"),
        ("food aid", "food  aid", "nothing against U+0020 at character 5"),
        ("aid", "ai\u200bd", "nothing against U+200B at character 2"),
        ("aid", "\ufeffaid", "nothing against U+FEFF at character 0"),
        ("finance", "\ufb01nance", "U+0066 U+0069 against U+FB01 at character 0"),
        ("aid", "\uff41id", "U+0061 against U+FF41 at character 0"),
        ("co-op", "co\u00ad-op", "nothing against U+00AD at character 2"),
    ],
)
def test_lookalikes_are_refused_by_code_points(one: str, other: str, points: str) -> None:
    """Two spellings that look the same are named with their rows and where they differ."""
    message = refusal(one, "oil", other)

    assert f"{one!r} (row 0) and {other!r} (row 2): {points}" in message


def test_listed_labels_may_differ_in_case_alone() -> None:
    """`US` and `us` can both be meant; two Unicode forms of one label cannot."""
    refuse_unusable_labels(uses("US", "us"), ["US", "us"])

    assert "look alike" in refusal("oil", listed=(COMPOSED, DECOMPOSED))
    assert "'us' (listed) and 'US' (row 0)" in refusal("US", listed=("us",))


@pytest.mark.parametrize("label", ["", " ", "\n"])
def test_blank_label_in_a_list_is_refused(label: str) -> None:
    """A list with a blank string may be a missing value or no label: neither is guessed."""
    with pytest.raises(DataError, match=r"^row 0: a label is blank"):
        uses(label)


def test_label_that_is_not_utf8_is_refused() -> None:
    """With its row and the byte."""
    with pytest.raises(DataError, match=r"^row 1: unusable label: not UTF-8: byte 0xff"):
        uses("aid", BadText("not UTF-8: byte 0xff at position 0"))


@pytest.mark.parametrize(
    ("label", "what"),
    [
        (" aid", "outer or doubled blanks"),
        ("ai\u200bd", "invisible"),
        (DECOMPOSED, "decomposed"),
        ("\u0430id", "several alphabets"),
        ("nan", "missing values"),
        ("None", "missing values"),
    ],
)
def test_odd_label_is_a_warning(label: str, what: str) -> None:
    """One line for each kind, with the label and its first row."""
    (line,) = label_warnings(uses("oil", label))

    assert what in line
    assert f"{label!r} (row 1)" in line


@pytest.mark.parametrize(
    "label",
    ["aid", COMPOSED, "\u0432\u043e\u0439\u043d\u0430", "COVID-19 \u0432 \u043c\u0438\u0440\u0435",
     "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u062f", "\u2764\ufe0f", "a/b", "a: b", "[Other]"],
)  # fmt: skip
def test_ordinary_label_gives_no_warning(label: str) -> None:
    """Labels of every alphabet, joiners of Persian and emoji included."""
    assert list(label_warnings(uses(label))) == []


def test_unknown_label_is_compared_with_known_ones() -> None:
    """By code points where one looks the same, else with the nearest name."""
    hint = unknown_label_hint(DECOMPOSED, ["oil", COMPOSED])

    assert hint is not None
    assert "looks like" in hint
    assert "U+0065 U+0301 against U+00E9" in hint
    assert unknown_label_hint("whaet", ["wheat"]) == "did you mean 'wheat'?"
    assert unknown_label_hint("zzzzzz", ["wheat"]) is None


def test_many_labels_are_shown_by_examples() -> None:
    """A message shows three, and how many more there are."""
    message = refusal(*(f"['{n}']" for n in range(9)))

    assert "9 labels are lists" in message
    assert "and 6 more" in message
    assert len(re.findall(r"row \d", message)) == 3


def test_equal_labels_do_not_differ() -> None:
    """The difference of a repeated pattern does not overlap itself."""
    assert difference("aa", "aaa") == "nothing against U+0061 at character 2"
