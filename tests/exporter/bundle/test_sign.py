"""What a signature promises: who exported a bundle, and that no file of it was changed since."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from batch.cli import main as batch_main
from exporter.bundle.export import export_checkpoint
from schemas.io.files import FileFacts
from tests.exporting import export_classifier

Command = Callable[..., Result]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key, its public one beside it."""
    path = tmp_path / "ours.key"
    assert export_classifier("keygen", path).exit_code == 0
    return path


@pytest.fixture
def signed(bundle: Path, tmp_path: Path, key: Path) -> Path:
    """A signed copy of the bundle that a test may change."""
    folder = Path(shutil.copytree(bundle, tmp_path / "signed"))
    result = export_classifier("sign", folder, "--key", key)
    assert result.exit_code == 0, result.output
    return folder


def public(key: Path) -> Path:
    """The public key of a pair."""
    return key.with_name(key.name + ".pub")


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Runs every command that can require a signature; all must refuse; returns what they say."""
    pq.write_table(pa.table({"text": ["One article."]}), tmp_path / "corpus.parquet")

    def refused(folder: Path, key: Path, exit_code: int = 1) -> str:
        required = ["--require-signature", str(public(key))]
        output = tmp_path / "scored"
        run = [str(tmp_path / "corpus.parquet"), "--task", "narrative", "--bundle", str(folder)]
        results = [
            CliRunner().invoke(batch_main, [*run, "--output", str(output), *required]),
            CliRunner().invoke(batch_main, [*run, "--dry-run", *required]),
            CliRunner().invoke(batch_main, ["doctor", "--bundle", str(folder), *required]),
            export_classifier("verify", folder, *required),
        ]
        assert [result.exit_code for result in results] == [exit_code] * 4
        said = {" ".join(result.output.split()) for result in results}
        assert not any("Traceback" in text or "trial" in text for text in said)
        assert not output.exists()
        return min(said, key=len)

    return refused


def test_a_signed_bundle_is_taken(signed: Path, key: Path, tmp_path: Path) -> None:
    """By every command that requires the signature, and by those that do not."""
    pq.write_table(pa.table({"text": ["One article."]}), tmp_path / "corpus.parquet")
    run = [str(tmp_path / "corpus.parquet"), "--task", "narrative", "--bundle", str(signed)]
    run += ["--output", str(tmp_path / "scored"), "--device", "cpu"]
    required = ["--require-signature", str(public(key))]
    scored = CliRunner().invoke(batch_main, [*run, *required])
    doctor = CliRunner().invoke(batch_main, ["doctor", "--bundle", str(signed), *required])
    verified = export_classifier("verify", signed, *required)

    assert [scored.exit_code, doctor.exit_code, verified.exit_code] == [0, 0, 0]
    for result in (doctor, verified):
        assert "by the required key" in result.output
    assert "verify it with --require-signature" in export_classifier("verify", signed).output


def test_an_unsigned_bundle_is_refused(
    bundle: Path, key: Path, refused: Callable[..., str]
) -> None:
    """With the command that signs."""
    said = refused(bundle, key)

    assert f"{bundle}: is not signed" in said
    assert "export-classifier sign" in said


def test_another_key_is_refused(signed: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """With the names of both keys."""
    other = tmp_path / "theirs.key"
    export_classifier("keygen", other)
    said = refused(signed, other)

    stored = json.loads((signed / "bundle.json.sig").read_text())
    assert f"is signed by key {stored['key_id']}, and a signature by key " in said


def test_a_key_id_cannot_be_borrowed(
    signed: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """What a signature says of its key is not believed."""
    other = tmp_path / "theirs.key"
    export_classifier("keygen", other)
    theirs = Path(shutil.copytree(signed, tmp_path / "theirs"))
    export_classifier("sign", theirs, "--key", other)
    path = signed / "bundle.json.sig"
    stored = json.loads(path.read_text())
    stored["key_id"] = json.loads((theirs / "bundle.json.sig").read_text())["key_id"]
    path.write_text(json.dumps(stored))

    assert "changed since it was signed" in refused(signed, other)


@pytest.mark.parametrize("name", ["narrative.onnx", "tokenizer.json", "MODEL_CARD.md"])
def test_a_changed_file_is_refused(
    signed: Path, key: Path, name: str, refused: Callable[..., str]
) -> None:
    """Every file counts, those that the run would not open too."""
    path = signed / name
    path.write_bytes(path.read_bytes() + b"\n")

    assert f"{name}: changed since the bundle was written" in refused(signed, key)


def test_a_manifest_that_fits_the_change_is_refused(
    signed: Path, key: Path, refused: Callable[..., str]
) -> None:
    """Whoever changes a file and its hash has no signature for it."""
    card = signed / "MODEL_CARD.md"
    card.write_bytes(card.read_bytes() + b"\n")
    manifest = json.loads((signed / "bundle.json").read_text())
    manifest["files"]["MODEL_CARD.md"] = FileFacts.of(card).model_dump()
    (signed / "bundle.json").write_text(json.dumps(manifest))

    assert "bundle.json: changed since it was signed by key" in refused(signed, key)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"\xff", b'{"schema_version": 99}'],
    ids=["empty", "list", "raw", "new"],
)
def test_a_foreign_manifest_is_not_even_parsed(
    signed: Path, key: Path, manifest: bytes, refused: Callable[..., str]
) -> None:
    """The signature comes first: what is wrong with the content is never reached."""
    (signed / "bundle.json").write_bytes(manifest)

    assert "changed since it was signed" in refused(signed, key)


@pytest.mark.parametrize("content", ["", "{}", '{"key_id": "a", "signature": "!"}', "nonsense"])
def test_a_broken_signature_is_refused(
    signed: Path, key: Path, content: str, refused: Callable[..., str]
) -> None:
    """A file that is no signature is as good as none."""
    (signed / "bundle.json.sig").write_text(content)

    assert "signature" in refused(signed, key)


def test_a_private_key_is_its_owners_alone(key: Path) -> None:
    """Nobody else may read it, and no second `keygen` replaces it."""
    before = key.read_bytes()
    again = export_classifier("keygen", key)

    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert again.exit_code == 2
    assert "is there already" in again.output
    assert key.read_bytes() == before


def test_signing_is_repeatable_and_undone_by_nothing_else(signed: Path, key: Path) -> None:
    """The same bundle and key give the same signature, and no other file is touched."""
    before = {path.name: path.read_bytes() for path in signed.iterdir()}
    export_classifier("sign", signed, "--key", key)

    assert {path.name: path.read_bytes() for path in signed.iterdir()} == before


def test_a_damaged_bundle_is_not_signed(bundle: Path, key: Path, tmp_path: Path) -> None:
    """Nobody should vouch for what was changed."""
    folder = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (folder / "tokenizer.json").write_text("{}")
    result = export_classifier("sign", folder, "--key", key)

    assert result.exit_code == 1
    assert "changed since the bundle was written" in result.output
    assert not (folder / "bundle.json.sig").exists()


def test_exporting_over_a_signed_bundle_leaves_no_signature(
    trained_alone: Path, signed: Path
) -> None:
    """The old signature says nothing of the new files."""
    export_checkpoint(trained_alone, signed, precisions=["fp32"])

    assert not (signed / "bundle.json.sig").exists()


def test_keys_and_signatures_are_in_standard_forms(signed: Path, key: Path) -> None:
    """Keys in PEM, and plain Ed25519 over bundle.json: other tools can check it too."""
    opened = serialization.load_pem_public_key(public(key).read_bytes())
    assert isinstance(opened, ed25519.Ed25519PublicKey)
    stored = json.loads((signed / "bundle.json.sig").read_text())

    opened.verify(base64.b64decode(stored["signature"]), (signed / "bundle.json").read_bytes())


def test_keys_that_are_none_are_wrong_usage(bundle: Path, key: Path, tmp_path: Path) -> None:
    """A private key to check with, a public one to sign with, another algorithm, and no key."""
    other = ec.generate_private_key(ec.SECP256R1())
    elliptic = tmp_path / "elliptic.pem"
    elliptic.write_bytes(
        other.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (tmp_path / "notes.txt").write_text("no key")
    results = [
        (export_classifier("verify", bundle, "--require-signature", key), "is a private key"),
        (
            export_classifier("verify", bundle, "--require-signature", elliptic),
            "not an Ed25519 public key",
        ),
        (
            export_classifier("verify", bundle, "--require-signature", tmp_path / "notes.txt"),
            "not a public",
        ),
        (export_classifier("sign", bundle, "--key", public(key)), "not a private key"),
    ]

    for result, message in results:
        assert result.exit_code == 2
        assert message in result.output


def test_a_locked_key_is_reported(bundle: Path, tmp_path: Path) -> None:
    """With the command that unlocks it."""
    path = tmp_path / "locked.key"
    path.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    result = export_classifier("sign", bundle, "--key", path)

    assert result.exit_code == 2
    assert "is locked with a password" in result.output


WITHOUT = """
import sys
sys.modules["cryptography"] = None
from click.testing import CliRunner
from batch.cli import main as batch_main
from exporter.cli import main
bundle, key = sys.argv[1:]
for command, words in (
    (main, ["sign", bundle, "--key", key]),
    (main, ["verify", bundle, "--require-signature", key]),
    (batch_main, ["doctor", "--bundle", bundle]),
):
    result = CliRunner().invoke(command, words)
    print(result.exit_code, "narrascan[sign]" in result.output)
"""


def test_without_cryptography_the_extra_is_named(bundle: Path, key: Path) -> None:
    """And whoever does not ask for signatures does not need it."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(bundle), str(key)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.splitlines() == ["2 True", "2 True", "0 False"]
