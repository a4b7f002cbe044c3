"""Invalid footers and encrypted files, and the messages about them."""

from __future__ import annotations

import base64
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from batch.corpus.plan import make_plan
from batch.corpus.sources.files import find_files
from batch.corpus.sources.footers import read_footer
from batch.corpus.tasks import RunTasks
from batch.options import CorpusOptions
from schemas.errors import CorpusError, StoppedError
from schemas.text.model_text import TextSpec
from tests.label_tasks import KIND

Write = Callable[..., Path]

ROWS = 12_345


def varint(value: int) -> bytes:
    """A number in the encoding of Thrift's compact protocol."""
    value = value << 1 ^ value >> 63
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def claim(path: Path, rows: int, *, count: int = -1) -> None:
    """Change the number of rows in a footer: everywhere, or the first `count` times."""
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    pages, footer = content[: -8 - length], content[-8 - length : -8]
    assert varint(ROWS) in footer
    footer = footer.replace(varint(ROWS), varint(rows), count)
    path.write_bytes(pages + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def plan(path: Path, chunk_rows: int = 4096) -> None:
    options = CorpusOptions((str(path),), chunk_rows=chunk_rows)
    make_plan(options, RunTasks({"t": KIND}, {}), TextSpec())


@pytest.fixture
def corpus(write: Write) -> Path:
    """A file of a few kilobytes with a number of rows that is easy to find in its footer."""
    return write({"text": ["Aid is wasted."] * ROWS})


@pytest.mark.parametrize("rows", [2**40, 2**62, -1])
def test_a_footer_that_claims_absurd_rows_is_refused(corpus: Path, rows: int) -> None:
    """The error names the file and comes before memory is allocated."""
    claim(corpus, rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        CorpusError, match=r"corpus.parquet: not a(?: valid| readable)? Parquet file"
    ):
        plan(corpus)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


def test_a_footer_whose_row_groups_have_other_rows_is_refused(corpus: Path) -> None:
    """The rows of the file must be the sum of the rows of its row groups."""
    claim(corpus, ROWS + 1, count=1)
    with pytest.raises(CorpusError, match=r"claims 12,34. rows, but its row groups 12,34."):
        read_footer(find_files([str(corpus)]).files[0])


def test_too_many_chunks_are_refused_before_they_are_created(write: Write) -> None:
    """Millions of rows of one value are a valid file of a few kilobytes."""
    corpus = write({"text": ["Aid is wasted."] * ROWS})
    claim(corpus, 2**28)
    with pytest.raises(CorpusError, match="chunks, more than 1,000,000") as error:
        plan(corpus, chunk_rows=1)

    assert "--chunk-rows" in str(error.value.hint)


def test_a_column_of_one_value_is_valid(write: Write) -> None:
    """Dictionary encoding stores many equal rows in few bytes."""
    text = pa.array(["Aid is wasted."]).take(pa.array([0] * 2_000_000, pa.int32()))
    corpus = write({"text": text}, row_group_size=2_000_000, max_rows_per_page=2**31 - 1)
    file = read_footer(find_files([str(corpus)]).files[0])

    assert corpus.stat().st_size < 1000
    assert file.rows == 2_000_000


class KeyService(encryption.KmsClient):  # type: ignore[misc]
    """Wraps keys by writing them as text; the reader has no keys."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("readable_footer", [False, True])
@pytest.mark.parametrize("columns", ["all", "one"])
def test_an_encrypted_file_is_reported_as_encrypted(
    tmp_path: Path, readable_footer: bool, columns: str
) -> None:
    """Not as damaged, with an encrypted or plaintext footer, with one or all columns encrypted."""
    table = pa.table({"text": ["Aid is wasted."], "n": [1]})
    if columns == "one":
        settings = encryption.EncryptionConfiguration(
            footer_key="f", column_keys={"c": ["n"]}, plaintext_footer=readable_footer
        )
        factory = encryption.CryptoFactory(lambda _: KeyService())
        properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    else:
        properties = encryption.create_encryption_properties(
            footer_key=b"0123456789112345", plaintext_footer=readable_footer
        )
    corpus = tmp_path / "corpus.parquet"
    with pq.ParquetWriter(corpus, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    with pytest.raises(CorpusError, match=r"corpus\.parquet: is encrypted") as error:
        plan(corpus)

    assert "decrypt" in str(error.value.hint)


def test_messages_have_no_internals_of_arrow(write: Write) -> None:
    """A footer of random bytes is reported as damaged, without "TProtocolException"."""
    corpus = write({"text": ["Aid is wasted."]})
    content = corpus.read_bytes()
    corpus.write_bytes(content[:-200] + b"\xff" * 192 + content[-8:])
    with pytest.raises(CorpusError) as error:
        plan(corpus)

    assert "corpus.parquet: not a readable Parquet file" in error.value.message
    assert "Exception" not in error.value.message


def test_planning_can_be_stopped_at_every_file(write: Write, tmp_path: Path) -> None:
    """Reading ten thousand footers from a store takes a while."""
    for number in range(3):
        write({"text": ["Aid is wasted."]}, f"many/{number}.parquet")
    options = CorpusOptions((str(tmp_path / "many"),))
    looks = 0

    def check_stop() -> None:
        nonlocal looks
        looks += 1
        if looks == 9:  # three names, three files, three footers
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        make_plan(options, RunTasks({"t": KIND}, {}), TextSpec(), check_stop=check_stop)
