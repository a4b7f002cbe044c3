"""What reading word vectors promises, and how text is cut for them."""

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
    """The same vectors as an array beside a table of words."""
    folder = tmp_path / "arrays"
    folder.mkdir()
    rows = [[number + 0.5, -number, 1e-2] for number in range(len(WORDS))]
    np.save(folder / "vectors.npy", np.array(rows, dtype=np.float32))
    pl.DataFrame({"index": WORDS}).write_parquet(folder / "words.parquet")
    return folder


def tokens(text: str, tokenizer: Tokenizer | None = None) -> list[str]:
    """How a text is cut, without the special tokens around it."""
    found = tokenizer or make_tokenizer(WORDS)
    offsets = found.encode(text, add_special_tokens=False).offsets
    return [text[start:end] for start, end in offsets]


def test_text_file_is_read(text_file: Path) -> None:
    """A word and its numbers a line, in the order of the file."""
    found = read_vectors(text_file)

    assert found.words == WORDS
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors[2], [2.5, -2, 0.01], rtol=1e-6)


def test_every_form_holds_the_same(text_file: Path, array_folder: Path) -> None:
    """A text file, its folder, and a folder with array and table give equal words and vectors."""
    forms = [read_vectors(path) for path in (text_file, text_file.parent, array_folder)]

    assert {form.words for form in forms} == {WORDS}
    assert all(np.array_equal(form.vectors, forms[0].vectors) for form in forms)


def test_most_frequent_words_are_kept(text_file: Path, array_folder: Path) -> None:
    """A limit keeps the beginning, which GloVe sorts by frequency."""
    for path in (text_file, array_folder):
        found = read_vectors(path, max_words=4)
        assert found.words == WORDS[:4]
        assert found.vectors.shape == (4, 3)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("", "expected lines"),
        ("the 1 2\nof 1\n", "expected lines"),
        ("the 1 2\nof 1 two\n", "line 2"),
        ("400000 50\nthe 1 2\n", "expected lines"),
        ("the 1 2\nthe 3 4\n", "stands twice"),
        ("[PAD] 1 2\n", "is one of"),
        ("the nan 2\n", "not finite"),
    ],
)
def test_damaged_text_is_told(text_file: Path, lines: str, told: str) -> None:
    """What is wrong with the file, and which file it is."""
    text_file.write_text(lines, encoding="utf-8")

    with pytest.raises(EncoderError, match=told) as caught:
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
def test_damaged_folder_is_told(array_folder: Path, change: str) -> None:
    """A folder that does not hold one array and as many words is refused."""
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
def test_text_is_cut_as_glove_counts_words(text: str, expected: list[str]) -> None:
    """Abbreviations, numbers and clitics stay whole; marks and hyphens stand alone."""
    assert tokens(text) == expected


def test_known_words_are_found_whatever_their_case_and_form() -> None:
    """Capitals, curly apostrophes and decomposed letters lead to the same ids; others to [UNK]."""
    tokenizer = make_tokenizer(WORDS)
    plain = tokenizer.encode("the u.s. didn't \u00e9")
    written = tokenizer.encode("THE U.S. Didn\u2019t e\u0301")

    assert written.ids == plain.ids
    assert plain.tokens == ["[CLS]", "the", "u.s.", "did", "n't", "\u00e9"]
    assert tokenizer.encode("petroleum").tokens == ["[CLS]", "[UNK]"]


def test_no_text_is_without_tokens() -> None:
    """A text of nothing that counts still has its first token, and spelt tokens stay text."""
    tokenizer = TextTokenizer(make_tokenizer(WORDS), max_tokens=8)
    empty, spelt = tokenizer.encode([ModelText("\u200b", cut=False), ModelText("[PAD]", cut=False)])

    assert empty.ids[0] == spelt.ids[0] == SPECIAL.index("[CLS]")
    assert SPECIAL.index("[PAD]") not in spelt.ids


def test_encoder_has_the_vectors(text_file: Path) -> None:
    """Rows of the embeddings stand where the tokenizer points; unknown words are their mean."""
    loaded = load_encoder(f"glove:{text_file}", markers=False)
    table = loaded.model.state_dict()["embeddings.weight"]
    vectors = torch.from_numpy(read_vectors(text_file).vectors)

    assert loaded.tokenizer.token_to_id("oil") == len(SPECIAL) + 2
    assert torch.equal(table[len(SPECIAL) :], vectors)
    assert (loaded.pad_id, loaded.max_tokens) == (0, None)
    torch.testing.assert_close(table[SPECIAL.index("[UNK]")], vectors.mean(dim=0))
    assert not table[[SPECIAL.index("[PAD]"), SPECIAL.index("[CLS]")]].any()


def test_seed_gives_the_encoder(text_file: Path) -> None:
    """With equal random numbers the weights are equal, and others give other weights."""

    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(load_encoder(f"glove:{text_file}", markers=True).model.parameters())

    assert all(map(torch.equal, weights(1), weights(1)))
    assert not all(map(torch.equal, weights(1), weights(2)))


def test_markers_are_added(text_file: Path) -> None:
    """Entity markers are tokens with vectors of their own; those of the words stay."""
    loaded = load_encoder(f"glove:{text_file}", markers=True)
    table = loaded.model.state_dict()["embeddings.weight"]
    found = loaded.tokenizer.encode("the [ENTITY]oil[/ENTITY]").tokens

    assert found == ["[CLS]", "the", "[ENTITY]", "oil", "[/ENTITY]"]
    assert len(table) == loaded.tokenizer.get_vocab_size() == len(SPECIAL + WORDS + MARKERS)
    assert table[-len(MARKERS) :].any(dim=1).all()
    assert torch.equal(table[len(SPECIAL)], torch.tensor([0.5, 0, 0.01]))


def test_package_stands_for_its_data_folder(
    tmp_path: Path, array_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors inside an installed package are found without running it."""
    package = tmp_path / "site" / "hostile_vectors"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('I was imported')")
    array_folder.rename(package / "data")
    monkeypatch.syspath_prepend(tmp_path / "site")

    loaded = load_encoder("glove:package:hostile-vectors", markers=False)

    assert loaded.source == "glove:package:hostile-vectors"
    assert loaded.tokenizer.token_to_id("oil") is not None


@pytest.mark.parametrize("place", ["", "/no/such/file", "package:no-such-vectors", "package:json"])
def test_vectors_that_are_not_there_are_told(place: str) -> None:
    """The source is named, with what can be done."""
    with pytest.raises(EncoderError, match=r"hint|cannot be read"):
        read_vectors(locate_vectors(f"glove:{place}"))
