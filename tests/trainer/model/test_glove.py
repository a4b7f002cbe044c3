"""Reader of word vectors, and the tokenizer for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer

from schemas.errors import EncoderError
from schemas.text.model_text import MARKERS, ModelText
from schemas.text.tokens import TextTokenizer
from trainer.model.encoders import load_encoder, locate_vectors
from trainer.model.glove import SPECIAL, make_tokenizer, read_vectors

WORDS = ("the", ",", "oil", "u.s.", "n't", "did", "'s", "1,000.5", "-", "term", "é")
LINES = "\n".join(f"{word} {number}.5 -{number} 1e-2" for number, word in enumerate(WORDS)) + "\n"


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """Vectors of three numbers in GloVe's text format."""
    path = tmp_path / "vectors.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


@pytest.fixture
def array_folder(tmp_path: Path) -> Path:
    """The same vectors as an array with a table of words."""
    folder = tmp_path / "arrays"
    folder.mkdir()
    rows = [[number + 0.5, -number, 1e-2] for number in range(len(WORDS))]
    np.save(folder / "vectors.npy", np.array(rows, dtype=np.float32))
    pl.DataFrame({"index": WORDS}).write_parquet(folder / "words.parquet")
    return folder


def tokens(text: str, tokenizer: Tokenizer | None = None) -> list[str]:
    """Tokens of a text, without the special tokens."""
    found = tokenizer or make_tokenizer(WORDS)
    offsets = found.encode(text, add_special_tokens=False).offsets
    return [text[start:end] for start, end in offsets]


def test_text_file_is_read(text_file: Path) -> None:
    """A word and its numbers per line, in the order of the file."""
    found = read_vectors(text_file)

    assert found.words == WORDS
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors[2], [2.5, -2, 0.01], rtol=1e-6)


def test_every_form_gives_the_same_vectors(text_file: Path, array_folder: Path) -> None:
    """A text file, its folder, and a folder with array and table give equal words and vectors."""
    forms = [read_vectors(path) for path in (text_file, text_file.parent, array_folder)]

    assert {form.words for form in forms} == {WORDS}
    assert all(np.array_equal(form.vectors, forms[0].vectors) for form in forms)


def test_the_limit_keeps_the_most_frequent_words(text_file: Path, array_folder: Path) -> None:
    """GloVe files are sorted by frequency, so these are the first words."""
    for path in (text_file, array_folder):
        found = read_vectors(path, max_words=4)
        assert found.words == WORDS[:4]
        assert found.vectors.shape == (4, 3)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", "expected a word"),
        ("the 1 2\nof 1\n", "expected a word"),
        ("the 1 2\nof 1 two\n", "line 2"),
        ("400000 50\nthe 1 2\n", "expected a word"),
        ("the 1 2\nthe 3 4\n", "a word is duplicate"),
        ("[PAD] 1 2\n", "is one of"),
        ("the nan 2\n", "not finite"),
    ],
)
def test_damaged_text_is_refused(text_file: Path, lines: str, expected: str) -> None:
    """The message has the file and the problem."""
    text_file.write_text(lines, encoding="utf-8")

    with pytest.raises(EncoderError, match=expected) as caught:
        load_encoder(f"glove:{text_file}", markers=False)
    assert str(text_file) in str(caught.value)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "fewer words": lambda folder: pl.DataFrame({"w": ["a"]}).write_parquet(
        folder / "words.parquet"
    ),
    "no words": lambda folder: (folder / "words.parquet").unlink(),
    "two arrays": lambda folder: np.save(folder / "more.npy", np.ones(3)),
    "not an array": lambda folder: (folder / "vectors.npy").write_bytes(b"garbled"),
    "not a table": lambda folder: (folder / "words.parquet").write_bytes(b"garbled"),
    "one axis": lambda folder: np.save(folder / "vectors.npy", np.ones(len(WORDS), np.float32)),
    "a pickle": lambda folder: np.save(folder / "vectors.npy", np.array([{}] * len(WORDS))),
}


@pytest.mark.parametrize("change", DAMAGE)
def test_damaged_folder_is_refused(array_folder: Path, change: str) -> None:
    """A folder must contain one array and the same number of words."""
    DAMAGE[change](array_folder)

    with pytest.raises(EncoderError, match="arrays"):
        read_vectors(array_folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The U.S. oil", ["The", "U.S.", "oil"]),
        ("didn't", ["did", "n't"]),
        ("Didn\u2019t it's", ["Did", "n\u2019t", "it", "'s"]),
        ("rose 1,000.5 pct, 6.5%", ["rose", "1,000.5", "pct", ",", "6.5", "%"]),
        ("long-term", ["long", "-", "term"]),
        ('"no"...', ['"', "no", '"', ".", ".", "."]),
        ("end.", ["end", "."]),
        ("\u00e9\u00e9 \u6771\u4eac", ["\u00e9\u00e9", "\u6771\u4eac"]),
    ],
)
def test_text_is_split_by_the_rules_of_glove(text: str, expected: list[str]) -> None:
    """Abbreviations, numbers and clitics are not split; punctuation marks and hyphens are."""
    assert tokens(text) == expected


def test_words_are_looked_up_whatever_their_case_and_form() -> None:
    """Capitals, curly apostrophes and decomposed letters have the same ids; others are [UNK]."""
    tokenizer = make_tokenizer(WORDS)
    plain = tokenizer.encode("the u.s. didn't \u00e9")
    written = tokenizer.encode("THE U.S. Didn\u2019t e\u0301")

    assert written.ids == plain.ids
    assert plain.tokens == ["[CLS]", "the", "u.s.", "did", "n't", "\u00e9"]
    assert tokenizer.encode("petroleum").tokens == ["[CLS]", "[UNK]"]


def test_every_text_has_tokens() -> None:
    """An empty text has the first special token, and spelled special tokens are plain text."""
    tokenizer = TextTokenizer(make_tokenizer(WORDS), max_tokens=8)
    empty, spelt = tokenizer.encode([ModelText("\u200b", cut=False), ModelText("[PAD]", cut=False)])

    assert empty.ids[0] == spelt.ids[0] == SPECIAL.index("[CLS]")
    assert SPECIAL.index("[PAD]") not in spelt.ids


def test_encoder_has_the_vectors(text_file: Path) -> None:
    """Embedding rows match the ids of the tokenizer; the row of unknown words is the mean."""
    loaded = load_encoder(f"glove:{text_file}", markers=False)
    table = loaded.model.state_dict()["embeddings.weight"]
    vectors = torch.from_numpy(read_vectors(text_file).vectors)

    assert loaded.tokenizer.token_to_id("oil") == len(SPECIAL) + 2
    assert torch.equal(table[len(SPECIAL) :], vectors)
    assert (loaded.pad_id, loaded.max_tokens) == (0, None)
    torch.testing.assert_close(table[SPECIAL.index("[UNK]")], vectors.mean(dim=0))
    assert not table[[SPECIAL.index("[PAD]"), SPECIAL.index("[CLS]")]].any()


def test_weights_are_deterministic(text_file: Path) -> None:
    """Equal random numbers give equal weights, and others give other weights."""

    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(load_encoder(f"glove:{text_file}", markers=True).model.parameters())

    assert all(map(torch.equal, weights(1), weights(1)))
    assert not all(map(torch.equal, weights(1), weights(2)))


def test_markers_are_added(text_file: Path) -> None:
    """Entity markers have their own ids and vectors; those of the words do not change."""
    loaded = load_encoder(f"glove:{text_file}", markers=True)
    table = loaded.model.state_dict()["embeddings.weight"]
    found = loaded.tokenizer.encode("the [ENTITY]oil[/ENTITY]").tokens

    assert found == ["[CLS]", "the", "[ENTITY]", "oil", "[/ENTITY]"]
    assert len(table) == loaded.tokenizer.get_vocab_size() == len(SPECIAL + WORDS + MARKERS)
    assert table[-len(MARKERS) :].any(dim=1).all()
    assert torch.equal(table[len(SPECIAL)], torch.tensor([0.5, 0, 0.01]))


def test_package_means_its_data_folder(
    tmp_path: Path, array_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors inside an installed package are located without importing it."""
    package = tmp_path / "site" / "hostile_vectors"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('I was imported')")
    array_folder.rename(package / "data")
    monkeypatch.syspath_prepend(tmp_path / "site")

    loaded = load_encoder("glove:package:hostile-vectors", markers=False)

    assert loaded.source == "glove:package:hostile-vectors"
    assert loaded.tokenizer.token_to_id("oil") is not None


@pytest.mark.parametrize("place", ["", "/no/such/file", "package:no-such-vectors", "package:json"])
def test_missing_vectors_are_reported(place: str) -> None:
    """The message has the source and a hint."""
    with pytest.raises(EncoderError, match=r"hint|cannot be read"):
        read_vectors(locate_vectors(f"glove:{place}"))
