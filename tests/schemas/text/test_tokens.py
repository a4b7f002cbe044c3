"""What cutting and windowing token ids promises, with real tokenizers."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from schemas.text.model_text import ENTITY_START, MARKERS, Article, ModelText, TextSpec, model_text
from schemas.text.tokens import TEXTS_PER_CALL, TextTokenizer, TokenizedText
from tests.strategies import STEADY, marked_articles, texts

ANY_LENGTH = 1_000_000
MARKED = TextSpec(entity_markers=True)
SHARED = settings(STEADY, suppress_health_check=[HealthCheck.function_scoped_fixture])


def copy_of(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer with markers, apart from the shared one."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    copied.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    return copied


def unigram() -> Tokenizer:
    """A tokenizer of the SentencePiece kind: special tokens are pieces of its vocabulary."""
    letters = [(letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyz</>[]"]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*((name, 0.0) for name in special), *letters, ("▁grain", -3.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def tokenize(tokenizer: Tokenizer, *given: str, max_tokens: int = 64) -> list[TokenizedText]:
    """Token ids of whole texts."""
    whole = [ModelText(text, cut=False) for text in given]
    return list(TextTokenizer(tokenizer, max_tokens=max_tokens).encode(whole))


def names(tokenizer: Tokenizer, text: TokenizedText) -> list[str]:
    """The tokens behind the ids."""
    return [tokenizer.id_to_token(token) for token in text.ids.tolist()]


@SHARED
@given(text=texts(max_pieces=120), max_tokens=st.integers(3, 40))
def test_never_longer_than_max_tokens(tokenizer: Tokenizer, text: str, max_tokens: int) -> None:
    """Whatever a text says, it gives at most `max_tokens` ids, special tokens included."""
    (found,) = tokenize(copy_of(tokenizer), text, max_tokens=max_tokens)

    assert 2 <= len(found.ids) <= max_tokens


@SHARED
@given(text=texts(), max_tokens=st.integers(3, 40))
def test_special_tokens_stand_at_both_ends_and_nowhere_else(
    tokenizer: Tokenizer, text: str, max_tokens: int
) -> None:
    """A cut text too begins with [CLS] and ends with [SEP], and has neither inside."""
    ours = copy_of(tokenizer)
    found = names(ours, *tokenize(ours, text, max_tokens=max_tokens))

    assert found[0] == "[CLS]"
    assert found[-1] == "[SEP]"
    assert not {"[CLS]", "[SEP]", "[PAD]", "[MASK]"} & set(found[1:-1])


@SHARED
@given(text=texts(max_pieces=80), max_tokens=st.integers(3, 40), cut=st.booleans())
def test_truncated_is_reported_if_and_only_if_something_was_dropped(
    tokenizer: Tokenizer, text: str, max_tokens: int, cut: bool
) -> None:
    """The flag is true for dropped tokens and for dropped characters, and else false."""
    ours = copy_of(tokenizer)
    (whole,) = tokenize(ours, text, max_tokens=ANY_LENGTH)
    (found,) = TextTokenizer(ours, max_tokens=max_tokens).encode([ModelText(text, cut)])

    assert found.truncated == (cut or len(whole.ids) > max_tokens)
    assert len(found.ids) == min(len(whole.ids), max_tokens)


def test_text_that_just_fits_is_not_truncated(tokenizer: Tokenizer) -> None:
    """At the limit nothing is dropped; one token less, and one is."""
    ours = copy_of(tokenizer)
    (whole,) = tokenize(ours, "The harbour and the grain", max_tokens=ANY_LENGTH)
    length = len(whole.ids)

    (fits,) = tokenize(ours, "The harbour and the grain", max_tokens=length)
    (short,) = tokenize(ours, "The harbour and the grain", max_tokens=length - 1)

    assert fits.ids.tolist() == whole.ids.tolist()
    assert not fits.truncated
    assert short.ids.tolist() == [*whole.ids[: length - 2].tolist(), whole.ids[-1]]
    assert short.truncated


def test_both_ends_of_a_long_text_are_read(tokenizer: Tokenizer) -> None:
    """With `head_tail` half of the tokens are from each end; a text that fits is read whole."""
    ours = copy_of(tokenizer)
    (whole,) = tokenize(ours, "The grain of the port and the oil of the harbour", max_tokens=64)
    plain = whole.ids[1:-1].tolist()
    for room in range(1, len(plain) + 1):
        text = ModelText("The grain of the port and the oil of the harbour", cut=False)
        encoder = TextTokenizer(ours, max_tokens=room + 2)
        (read,) = encoder.encode([text], TextSpec(truncation="head_tail"))
        tail = room // 2
        expected = (
            plain if room == len(plain) else [*plain[: room - tail], *plain[len(plain) - tail :]]
        )

        assert read.ids[1:-1].tolist() == expected
        assert read.truncated == (room < len(plain))


@SHARED
@given(article=marked_articles(), entity_tokens=st.integers(8, 24))
def test_window_around_an_entity_can_be_smaller(
    tokenizer: Tokenizer, article: Article, entity_tokens: int
) -> None:
    """It is what a model that reads so few tokens would read."""
    ours = copy_of(tokenizer)
    text = model_text(article, MARKED, max_tokens=64)
    narrow = TextSpec(entity_markers=True, entity_tokens=entity_tokens)
    (windowed,) = TextTokenizer(ours, max_tokens=64).encode([text], narrow)
    (read_by_less,) = TextTokenizer(ours, max_tokens=entity_tokens).encode([text], MARKED)

    assert windowed.ids.tolist() == read_by_less.ids.tolist()
    assert windowed.truncated == read_by_less.truncated


@SHARED
@given(article=marked_articles(), max_tokens=st.integers(8, 24))
def test_marked_entity_stands_inside_the_window(
    tokenizer: Tokenizer, article: Article, max_tokens: int
) -> None:
    """Wherever the entity stands in a long text, its marker is among the ids, once."""
    ours = copy_of(tokenizer)
    text = model_text(article, MARKED, max_tokens=max_tokens)
    (found,) = TextTokenizer(ours, max_tokens=max_tokens).encode([text])

    assert names(ours, found).count(ENTITY_START) == 1


@pytest.mark.parametrize("place", [0, 7, 150, 293, 300])
def test_entity_has_context_on_both_sides(tokenizer: Tokenizer, place: int) -> None:
    """The window is centered on the marker, and is full wherever the text has enough words."""
    ours = copy_of(tokenizer)
    words = ["grain"] * 300
    text = " ".join([*words[:place], "[ENTITY]oil[/ENTITY]", *words[place:]])
    found = names(ours, *tokenize(ours, text, max_tokens=34))

    assert len(found) == 34
    assert abs(found.index(ENTITY_START) - 17) <= 1 or place in {0, 7, 293, 300}


@pytest.mark.parametrize("spelled", ["[SEP]", "[CLS]", "[PAD]", "[MASK]"])
def test_spelled_special_token_is_plain_text(tokenizer: Tokenizer, spelled: str) -> None:
    """An article that quotes a special token of a WordPiece model does not contain it."""
    ours = copy_of(tokenizer)
    (found,) = tokenize(ours, f"grain {spelled} oil")

    assert spelled not in names(ours, found)[1:-1]


@pytest.mark.parametrize("spelled", ["<s>", "</s>", "<pad>"])
@pytest.mark.parametrize("text", ["grain {} oil", "grain{}oil", "{}"])
def test_special_token_among_the_pieces_is_plain_text(spelled: str, text: str) -> None:
    """Nor does one of a SentencePiece model, whose vocabulary has special tokens as pieces."""
    ours = unigram()
    (found,) = tokenize(ours, text.format(spelled))

    assert not {"<s>", "</s>", "<pad>"} & set(names(ours, found)[1:-1])


def test_unknown_characters_are_unknown_tokens() -> None:
    """A character outside the vocabulary is the unknown token, and is not dropped."""
    ours = unigram()
    (found,) = tokenize(ours, "grain 新 oil")

    assert names(ours, found).count("<unk>") == 1


def test_empty_text_is_its_special_tokens(tokenizer: Tokenizer) -> None:
    """A text of nothing still makes a row that the model can run."""
    ours = copy_of(tokenizer)

    assert [names(ours, text) for text in tokenize(ours, "")] == [["[CLS]", "[SEP]"]]


def test_ids_do_not_depend_on_neighbours(tokenizer: Tokenizer) -> None:
    """Many texts at once give, in order, what each gives alone."""
    ours = copy_of(tokenizer)
    many = [f"grain {number} " * (number % 9) for number in range(TEXTS_PER_CALL + 30)]
    together = tokenize(ours, *many, max_tokens=12)

    alone = [tokenize(ours, text, max_tokens=12)[0] for text in many]
    assert [text.ids.tolist() for text in together] == [text.ids.tolist() for text in alone]


def test_settings_stored_in_the_tokenizer_are_put_aside(tokenizer: Tokenizer) -> None:
    """A tokenizer file that pads and truncates by itself gives the same ids as any other."""
    stored = copy_of(tokenizer)
    stored.enable_truncation(5)
    stored.enable_padding(length=50)
    reopened = Tokenizer.from_str(stored.to_str())

    (found,) = tokenize(reopened, "The harbour and the grain of the port")
    (plain,) = tokenize(copy_of(tokenizer), "The harbour and the grain of the port")
    assert found.ids.tolist() == plain.ids.tolist()


def test_no_room_for_text_is_an_error(tokenizer: Tokenizer) -> None:
    """A limit that the special tokens alone use up is refused."""
    with pytest.raises(ValueError, match="max_tokens 2 leaves no room"):
        TextTokenizer(copy_of(tokenizer), max_tokens=2)
