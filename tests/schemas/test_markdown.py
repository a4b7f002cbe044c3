"""Untrusted text in Markdown pages."""

import pytest

from schemas.markdown import Markdown, markdown_code, markdown_table, markdown_text


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("Culture: books & films", r"Culture: books \& films"),
        ("snake_case stays", "snake_case stays"),
        ("_emphasis_ **strong**", r"\_emphasis\_ \*\*strong\*\*"),
        ("<script>alert(1)</script>", r"\<script>alert(1)\</script>"),
        ("tail (<= 8), head (>= 35)", "tail (<= 8), head (>= 35)"),
        ("> quote", r"\> quote"),
        ("a | b", r"a \| b"),
        ("`code`", r"\`code\`"),
        ("[text](javascript:x)", r"\[text\](javascript:x)"),
        ("https://evil.example www.evil.example", r"https\://evil.example www\.evil.example"),
        ("someone@example.org", r"someone\@example.org"),
        ("two\nlines", r"two\\nlines"),
        ("$x$", r"\$x\$"),
        ("# heading", r"\# heading"),
        ("1. item", r"1\. item"),
        ("&lt;", r"\&lt;"),
    ],
)
def test_untrusted_text_stays_text(raw: str, written: str) -> None:
    """Markup, links, HTML, tables, line breaks and entities are shown literally."""
    assert markdown_text(raw) == written


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("a/b_c", "`a/b_c`"),
        ("`", "`` ` ``"),
        ("a``b", "```a``b```"),
        ("<b>\n", "`<b>\\n`"),
        ("", "` `"),
    ],
)
def test_code_cannot_be_ended_by_its_text(raw: str, written: str) -> None:
    """Backticks inside code do not end it, line breaks are escaped."""
    assert markdown_code(raw) == written


def test_cells_cannot_add_cells_or_rows() -> None:
    """Pipes and line breaks in a cell are escaped; our own markup is not."""
    table = markdown_table(["label", "rows"], [["a|b\n| c | d |", Markdown("**1**")]])

    assert table.splitlines() == [
        "| label | rows |",
        "| --- | ---: |",
        r"| a\|b\\n\| c \| d \| | **1** |",
    ]


def test_long_text_is_cut() -> None:
    """A very long label becomes a cell of ordinary size."""
    assert len(markdown_text("x" * 1_000_000)) == 300
