"""What the one text builder promises."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.text.model_text import (
    BLANK_CLASS,
    CHARS_PER_TOKEN,
    EMPTY,
    ENTITY_END,
    ENTITY_START,
    MAX_BLANKS,
    Article,
    ModelText,
    TextSpec,
    is_blank,
    model_text,
)
from tests.strategies import STEADY, bodies, marked_articles, texts

PLAIN = TextSpec()
MARKED = TextSpec(title=False, entity_markers=True)
BLANK = [None, "", " ", "\n\t \u00a0\u2003"]
WIDE = 512


def test_title_stands_before_the_body() -> None:
    """Title and body are joined by one blank line."""
    built = model_text(Article("The body.", title="A title"), PLAIN, max_tokens=WIDE)

    assert built == ModelText("A title\n\nThe body.", cut=False)


@pytest.mark.parametrize("title", BLANK)
def test_blank_title_leaves_the_body_alone(title: str | None) -> None:
    """A row without a title has no separator either."""
    assert model_text(Article("Body", title=title), PLAIN, max_tokens=WIDE).text == "Body"


def test_title_can_be_left_out() -> None:
    """A task that does not read titles does not see them."""
    built = model_text(Article("Body", title="T"), TextSpec(title=False), max_tokens=WIDE)

    assert built.text == "Body"


@pytest.mark.parametrize("text", BLANK)
@pytest.mark.parametrize("spec", [PLAIN, MARKED])
def test_blank_body_is_empty(text: str | None, spec: TextSpec) -> None:
    """Null, empty and white-space bodies give the empty text, whatever title and span say."""
    article = Article(text, title="A title", start=0, end=9)

    assert is_blank(text)
    assert model_text(article, spec, max_tokens=WIDE) == EMPTY


def test_markers_stand_around_the_span() -> None:
    """The span from start to end, end exclusive, is enclosed."""
    article = Article("Ministers met Acme today.", entity="Acme", start=14, end=18)

    built = model_text(article, MARKED, max_tokens=WIDE)

    assert built == ModelText("Ministers met [ENTITY]Acme[/ENTITY] today.", cut=False)


def test_markers_count_characters_not_bytes() -> None:
    """Letters of several bytes before the span do not move the markers."""
    built = model_text(
        Article("Über 新闻 😀 Acme", entity="Acme", start=10, end=14), MARKED, max_tokens=WIDE
    )

    assert built.text == "Über 新闻 😀 [ENTITY]Acme[/ENTITY]"


def test_span_may_be_the_whole_text() -> None:
    """The first and the last character may belong to the entity."""
    built = model_text(Article("Acme", start=0, end=4), MARKED, max_tokens=WIDE)

    assert built.text == "[ENTITY]Acme[/ENTITY]"


def test_title_stands_before_a_marked_body() -> None:
    """A title does not move the markers: offsets count from the body's start."""
    spec = TextSpec(entity_markers=True)
    built = model_text(Article("Acme fell", title="Markets", start=0, end=4), spec, max_tokens=WIDE)

    assert built.text == "Markets\n\n[ENTITY]Acme[/ENTITY] fell"


@pytest.mark.parametrize(
    ("start", "end", "entity", "reason"),
    [
        (None, 4, None, "offsets are missing"),
        (0, None, None, "offsets are missing"),
        (4, 4, None, "inverted or empty: start 4, end 4"),
        (5, 2, None, "inverted or empty: start 5, end 2"),
        (-1, 4, None, "-1 to 4 lie outside the text of 9 characters"),
        (-4, -1, None, "-4 to -1 lie outside the text"),
        (5, 10, None, "5 to 10 lie outside the text"),
        (90, 99, None, "90 to 99 lie outside the text"),
        (0, 4, "Beta", r"text\[0:4\] is 'Acme', not the entity 'Beta'"),
        (0, 5, "Acme", "end exclusive"),
    ],
)
def test_span_that_does_not_fit_is_refused(
    start: int | None, end: int | None, entity: str | None, reason: str
) -> None:
    """A span that is missing, inverted, outside, or not the entity is reported with the reason."""
    article = Article("Acme fell", entity=entity, start=start, end=end)

    with pytest.raises(ValueError, match=reason):
        model_text(article, MARKED, max_tokens=WIDE)


def test_span_is_ignored_where_the_task_marks_nothing() -> None:
    """A task without markers does not look at offsets."""
    built = model_text(Article("Acme fell", start=90, end=-1), PLAIN, max_tokens=WIDE)

    assert built.text == "Acme fell"


def test_quoted_marker_is_not_a_marker() -> None:
    """An article that spells a marker has it broken up, and stays readable."""
    article = Article("The [ENTITY] tag, closed by [/ENTITY].", title="On [ENTITY]")

    built = model_text(article, PLAIN, max_tokens=WIDE)

    assert built.text == "On [ENTITY ]\n\nThe [ENTITY ] tag, closed by [/ENTITY ]."


def test_title_and_body_do_not_join_to_a_marker() -> None:
    """Halves of a marker on both sides of an unusual separator are broken up too."""
    spec = TextSpec(separator="", entity_markers=True)
    article = Article("ENTITY] Acme", title="[", start=8, end=12)

    built = model_text(article, spec, max_tokens=WIDE)

    assert built.text == "[ENTITY ] [ENTITY]Acme[/ENTITY]"


@STEADY
@given(article=marked_articles(), max_tokens=st.integers(8, 40))
def test_marked_entity_survives_the_cut(article: Article, max_tokens: int) -> None:
    """Wherever the entity stands and whatever the text quotes, one pair of markers encloses it."""
    built = model_text(article, TextSpec(entity_markers=True), max_tokens=max_tokens)
    _, _, rest = built.text.partition(ENTITY_START)
    inside, _, _ = rest.partition(ENTITY_END)

    assert built.text.count(ENTITY_START) == built.text.count(ENTITY_END) == 1
    assert article.text is not None
    span = article.text[article.start : article.end][: max_tokens * CHARS_PER_TOKEN // 2]
    assert inside.replace(" ]", "]") == span.replace(" ]", "]")


@STEADY
@given(text=bodies(max_pieces=80), title=st.none() | texts(), max_tokens=st.integers(8, 16))
def test_text_without_a_marked_span_has_no_marker(
    text: str, title: str | None, max_tokens: int
) -> None:
    """Nothing that an article says can pass as a marked entity."""
    built = model_text(Article(text, title=title), PLAIN, max_tokens=max_tokens)

    assert ENTITY_START not in built.text
    assert ENTITY_END not in built.text


@STEADY
@given(text=bodies(max_pieces=200), max_tokens=st.integers(8, 10))
def test_cut_is_reported_if_and_only_if_characters_are_dropped(text: str, max_tokens: int) -> None:
    """`cut` is true exactly for texts longer than the budget, leading white space apart."""
    limit = max_tokens * CHARS_PER_TOKEN
    whole = text.lstrip()

    built = model_text(Article(text), PLAIN, max_tokens=max_tokens)

    assert built.cut == (len(whole) > limit)
    assert built.text.replace(" ]", "]") == whole[:limit].replace(" ]", "]")


def test_leading_white_space_does_not_use_up_the_budget() -> None:
    """An article behind pages of white space, as scraped ones are, still reaches the model."""
    built = model_text(Article("\n " * 50_000 + "Real news."), PLAIN, max_tokens=64)

    assert built == ModelText("Real news.", cut=False)


BLANKS = [" ", "\n \t", "\u00a0", "\u200b", "\ufeff\u00ad", "\x00", "\u2800", "\r\n"]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
@pytest.mark.parametrize("spec", [PLAIN, TextSpec(title=False, entity_markers=True)])
def test_blanks_inside_a_text_do_not_use_up_the_budget(spec: TextSpec, blank: str) -> None:
    """What stands behind 4,000 blanks is read, in a marked text before and behind the entity."""
    gap = blank * 4000
    text = f"Photo:{gap}Acme{gap}Rain is expected."
    start = text.index("Acme")
    built = model_text(Article(text, start=start, end=start + 4), spec, max_tokens=64)
    short = (blank * MAX_BLANKS)[:MAX_BLANKS]
    words = built.text.replace(ENTITY_START, "").replace(ENTITY_END, "")

    assert not built.cut
    assert words.startswith(f"Photo:{short}" if spec == PLAIN else "Photo:")
    assert words.split("Acme")[1] == f"{short}Rain is expected."
    assert len(words) == len("Photo:AcmeRain is expected.") + 2 * MAX_BLANKS


def test_blanks_in_a_title_do_not_use_up_the_budget() -> None:
    """Before, inside and behind its words."""
    gap = " " * 5000
    built = model_text(Article("Body", title=f"{gap}A{gap}title{gap}"), PLAIN, max_tokens=64)

    assert built == ModelText("A" + " " * MAX_BLANKS + "title\n\nBody", cut=False)


def test_a_long_entity_with_blanks_keeps_its_words() -> None:
    """Blanks inside the span are shortened like others."""
    text = "Acme" + " " * 5000 + "Ltd"
    built = model_text(Article(text, start=0, end=len(text)), MARKED, max_tokens=64)

    assert built.text == f"{ENTITY_START}Acme{' ' * MAX_BLANKS}Ltd{ENTITY_END}"


def test_a_text_within_the_limit_keeps_its_blanks() -> None:
    """Ordinary texts are what they were, to the character."""
    text = "Photo:" + " " * 1000 + "Rain is expected."
    built = model_text(Article(text), PLAIN, max_tokens=64)

    assert built == ModelText(text, cut=False)


def test_short_runs_of_a_long_text_keep_their_blanks() -> None:
    """Paragraphs and indentation are left alone, so that long articles are what they were."""
    text = "Aid.\n\n    Rain is expected.  " * 500
    built = model_text(Article(text), PLAIN, max_tokens=64)

    assert built == ModelText(text[: 64 * CHARS_PER_TOKEN], cut=True)


@STEADY
@given(
    parts=st.lists(st.sampled_from([*"ab", " ", "\n", " " * 20, "\u200b" * 9]), max_size=400),
    max_tokens=st.integers(8, 12),
)
def test_a_shortened_text_is_the_beginning_of_the_shortened_whole(
    parts: list[str], max_tokens: int
) -> None:
    """Read piece by piece, the text is that of one substitution over all of it."""
    limit, text = max_tokens * CHARS_PER_TOKEN, "x" + "".join(parts)
    short = re.sub(f"({BLANK_CLASS}{{{MAX_BLANKS}}}){BLANK_CLASS}+", r"\1", text)
    built = model_text(Article(text), PLAIN, max_tokens=max_tokens)

    assert built.text == (text if len(text) <= limit else short[:limit])


def test_megabytes_of_blanks_take_no_time() -> None:
    """One run, and a million short ones behind it."""
    text = "x" + " " * 20_000_000 + "a         " * 1_000_000
    started = time.process_time()
    built = model_text(Article(text), PLAIN, max_tokens=512)

    assert built.cut
    assert time.process_time() - started < 2


def test_cut_title_is_reported() -> None:
    """A title that loses characters counts as cut, like a body that does."""
    built = model_text(Article("Body", title="t" * 10_000), PLAIN, max_tokens=8)

    assert built.cut


@pytest.mark.parametrize("spec", [PLAIN, TextSpec(entity_markers=True)])
@pytest.mark.parametrize("start", [0, 5_000_000, 9_999_990])
def test_ten_megabytes_become_a_bounded_text(spec: TextSpec, start: int) -> None:
    """A text of 10 MB is cut, before tokenizing, to a small multiple of what the model may see."""
    article = Article("grain " * 1_666_667, title="w" * 10_000_000, start=start, end=start + 5)

    built = model_text(article, spec, max_tokens=256)

    assert built.cut
    assert len(built.text) < 3 * 256 * CHARS_PER_TOKEN


def test_entity_of_megabytes_is_cut_too() -> None:
    """A span as long as a book keeps its beginning and both markers."""
    built = model_text(Article("a" * 5_000_000, start=10, end=4_999_990), MARKED, max_tokens=64)

    assert built.cut
    assert len(built.text) < 3 * 64 * CHARS_PER_TOKEN
    assert built.text.startswith("a" * 10 + ENTITY_START)
    assert built.text.endswith(ENTITY_END + "a" * 10)


@pytest.mark.parametrize("blanks", ["", " " * 50, "\n" * 5000])
def test_head_tail_keeps_both_ends_of_a_text_beyond_the_limit(blanks: str) -> None:
    """Half of the characters from each end, runs of blanks shortened, and nothing read twice."""
    half = 8 * CHARS_PER_TOKEN // 2
    words = " ".join(f"w{number}" for number in range(400))
    spec = TextSpec(title=False, truncation="head_tail")
    built = model_text(Article(f"  {words}{blanks}  "), spec, max_tokens=8)
    head, _, tail = built.text.partition(spec.separator)

    assert built.cut
    assert (len(head), len(tail)) == (half, half)
    assert words.startswith(head)
    assert words.endswith(tail)


@pytest.mark.parametrize(
    "spec", [TextSpec(title=False), TextSpec(title=False, truncation="head_tail")]
)
def test_a_text_within_the_limit_is_the_same_for_every_truncation(spec: TextSpec) -> None:
    """Also one that is within it once its blanks are shortened."""
    spread = "Aid" + "\n" * 5000 + "is wasted"
    built = model_text(Article(spread), spec, max_tokens=8)

    assert model_text(Article("Aid is wasted"), spec, max_tokens=8).text == "Aid is wasted"
    assert built == ModelText("Aid" + "\n" * 8 + "is wasted", cut=False)


def test_ends_and_a_window_exclude_each_other() -> None:
    """Around a marked entity a window is read, which has no ends."""
    with pytest.raises(ValueError, match="has no effect with entity_markers"):
        TextSpec(entity_markers=True, truncation="head_tail")
