"""Windows of long texts: every token is read, and its output counts once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from tokenizers import Tokenizer

from schemas.kinds.base import OutputSpec
from schemas.text.model_text import Article, ModelText, TextSpec, model_text
from schemas.text.tokens import TextTokenizer, TokenizedText
from schemas.text.windows import Windows, WindowSpec, pool_windows
from tests.strategies import STEADY, Floats, bodies

SHARED = settings(STEADY, suppress_health_check=[HealthCheck.function_scoped_fixture])
PLACE = OutputSpec("logits", 1, per_token=True)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int]:
    """Tokens of a text that is longer than its windows, tokens of a window, and their stride."""
    room = draw(st.integers(1, 40))
    return draw(st.integers(room + 1, 300)), room, draw(st.integers(1, room))


@st.composite
def specs(draw: st.DrawFn) -> WindowSpec:
    """Windows of a tokenizer with two special tokens."""
    tokens = draw(st.integers(8, 30))
    stride = draw(st.integers(1, tokens))
    windows = draw(st.integers(2, 6))
    return WindowSpec(tokens=tokens, stride=stride, max_windows=windows, pooling="mean")


def read(tokenizer: Tokenizer, text: ModelText, spec: WindowSpec) -> TokenizedText:
    """A text in windows."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    (tokenized,) = TextTokenizer(copied, max_tokens=64).encode([text], windows=spec)
    return tokenized


@STEADY
@given(layouts())
def test_windows_are_equally_long_and_overlap_by_the_stride(layout: tuple[int, int, int]) -> None:
    """The last one ends with the text, and may overlap more."""
    tokens, room, stride = layout
    windows = Windows.over(tokens, room=room, stride=stride, before=1, after=1)
    steps = np.diff(windows.starts)

    assert windows.starts[0] == 0
    assert windows.starts[-1] + room == tokens
    assert (steps[:-1] == stride).all()
    assert 1 <= steps[-1] <= stride


@STEADY
@given(layouts())
def test_every_token_counts_in_the_window_where_it_has_most_context(
    layout: tuple[int, int, int],
) -> None:
    """Once, and special tokens with the first and the last window."""
    tokens, room, stride = layout
    windows = Windows.over(tokens, room=room, stride=stride, before=2, after=1)
    values = np.arange(tokens + 3)
    pieces = windows.cut(values)
    counted = np.concatenate([one[own] for one, own in zip(pieces, windows.own, strict=True)])
    middles = np.array(windows.starts) + (room - 1) / 2

    assert counted.tolist() == values.tolist()
    for window, own in enumerate(windows.own):
        for position in pieces[window][own]:
            if 2 <= position < tokens + 2:
                distances = np.abs(middles - (position - 2))
                assert distances[window] <= distances.min() + 0.5


@SHARED
@given(body=bodies(), spec=specs())
def test_a_text_in_windows_is_the_text(tokenizer: Tokenizer, body: str, spec: WindowSpec) -> None:
    """Its tokens are those of the whole text, as far as the windows reach."""
    text = ModelText(body, cut=False)
    copied = Tokenizer.from_str(tokenizer.to_str())
    (whole,) = TextTokenizer(copied, max_tokens=1_000_000).encode([text])
    tokenized = read(tokenizer, text, spec)
    reach = spec.tokens + (spec.max_windows - 1) * min(spec.stride, spec.tokens - 2)

    assert tokenized.ids[:-1].tolist() == whole.ids[:-1][: len(tokenized.ids) - 1].tolist()
    assert len(tokenized.ids) == min(len(whole.ids), reach)
    assert tokenized.truncated == (len(whole.ids) > reach)
    if len(whole.ids) <= spec.tokens:
        assert (tokenized.status, tokenized.windows) == ("ok", None)
    else:
        assert tokenized.status == ("truncated" if len(whole.ids) > reach else "windowed")
        assert {len(piece.ids) for piece in tokenized.pieces} == {spec.tokens}
        assert len(tokenized.pieces) <= spec.max_windows


@SHARED
@given(body=bodies(), spec=specs())
def test_windows_have_the_words_of_their_tokens(
    tokenizer: Tokenizer, body: str, spec: WindowSpec
) -> None:
    """Each word of the text is in the window that counts for its first token."""
    text = model_text(
        Article(body), TextSpec(title=False), max_tokens=spec.most_tokens, keep_source=True
    )
    tokenized = read(tokenizer, text, spec)
    if tokenized.windows is None:
        return
    assert tokenized.words is not None
    starts = [
        piece.words.starts[own]
        for piece, own in zip(tokenized.pieces, tokenized.windows.own, strict=True)
        if piece.words is not None
    ]

    assert np.concatenate(starts).tolist() == tokenized.words.starts.tolist()


@STEADY
@given(
    hnp.arrays(
        np.float32,
        (st.integers(1, 5)).map(lambda rows: (rows, 3)),
        elements=st.floats(-50, 50, width=32),
    )
)
def test_pooling_is_as_its_formula(outputs: Floats) -> None:
    """`lse` lies between mean and maximum; of one window all are its own output."""
    exact = outputs.astype(np.float64)
    mean, largest, smooth = (pool_windows(outputs, how) for how in ("mean", "max", "lse"))

    assert mean == pytest.approx(exact.mean(axis=0), rel=1e-6, abs=1e-6)
    assert largest.tolist() == outputs.max(axis=0).tolist()
    assert smooth == pytest.approx(np.log(np.exp(exact).mean(axis=0)), rel=1e-5, abs=1e-5)
    assert (smooth <= largest).all()
    assert (smooth >= mean - 1e-4).all()


def test_a_pooled_vector_is_as_long_as_those_of_its_windows(tokenizer: Tokenizer) -> None:
    """Vectors of length 1 give one of length 1, which points where their mean does."""
    spec = WindowSpec(tokens=8, stride=6, max_windows=3, pooling="mean")
    text = read(tokenizer, ModelText("a b c d e f g h i j", cut=False), spec)
    vectors = [np.array(one, np.float32) for one in ([1, 0], [0, 1])]
    pooled = OutputSpec("embedding", 2, keeps_length=True).of_text(vectors, text)

    assert len(text.pieces) == 2
    assert pooled.tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_outputs_of_tokens_are_joined_in_order(tokenizer: Tokenizer) -> None:
    """One for each token of the text, whatever the windows."""
    spec = WindowSpec(tokens=10, stride=3, max_windows=6, pooling=None)
    text = read(tokenizer, ModelText("a b c d e f g h i j k l m n o p", cut=False), spec)
    outputs = [piece.ids[:, None].astype(np.float32) for piece in text.pieces]

    assert len(outputs) > 2
    assert PLACE.of_text(outputs, text)[:, 0].tolist() == text.ids.tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokens": 16, "stride": 17}, "would not be read"),
        ({"tokens": 7, "stride": 4}, "greater than or equal to 8"),
        ({"tokens": 16, "stride": 0}, "greater than or equal to 1"),
        ({"tokens": 16, "stride": 8, "max_windows": 5000}, "less than or equal to 1024"),
    ],
    ids=str,
)
def test_windows_that_cannot_be_are_refused(values: dict[str, int], message: str) -> None:
    """In an artefact as in a config."""
    with pytest.raises(ValidationError, match=message):
        WindowSpec.model_validate({"max_windows": 4, "pooling": "mean", **values})
