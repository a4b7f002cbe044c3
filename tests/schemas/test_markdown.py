"""What Markdown pages promise of text from outside."""

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
def test_text_from_outside_stays_text(raw: str, written: str) -> None:
    """Markup, links, HTML, tables, line breaks and entities are shown and do nothing."""
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
def test_code_ends_where_it_should(raw: str, written: str) -> None:
    """Backticks inside code do not end it, line breaks are escaped."""
    assert markdown_code(raw) == written


def test_table_has_the_cells_that_it_was_given() -> None:
    """A pipe or line break in a cell makes no further cell or row; our own markup passes."""
    table = markdown_table(["label", "rows"], [["a|b\n| c | d |", Markdown("**1**")]])

    assert table.splitlines() == [
        "| label | rows |",
        "| --- | ---: |",
        r"| a\|b\\n\| c \| d \| | **1** |",
    ]


def test_long_text_is_cut() -> None:
    """A label as long as a book is a cell of ordinary size."""
    assert len(markdown_text("x" * 1_000_000)) == 300
