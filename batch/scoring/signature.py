"""Ed25519 signature of a bundle: over `bundle.json`, and so over every file.

Ed25519 (RFC 8032) is that of the `cryptography` package (extra `sign`), which is imported only
where a signature is required.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.bundle.folder import Bundle, BundleFiles
from schemas.errors import BundleError, UsageError
from schemas.io.regular_file import read_regular_file
from schemas.printable import one_line, printable
from schemas.validation import validation_problems

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

INSTALL = "pip install 'narrascan[sign]'"
KEY_ID_CHARS = 16
MAX_SIGNATURE_BYTES = 10_000
MAX_KEY_BYTES = 100_000


class Signature(BaseModel):
    """`bundle.json.sig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Literal["ed25519"] = "ed25519"
    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    """Short name of the public key, for messages; verification does not use it."""
    signature: str
    """64 bytes in base64, over the bytes of `bundle.json` and nothing else."""


def open_bundle(folder: Path, public_key: Path | None) -> Bundle:
    """Open a bundle; with a key, only if that key signed it and no file was changed since.

    public_key: PEM file, or None to open without requiring a signature.
    Raises BundleError for a bundle that is unsigned, signed by another key or changed, before
    any file but the manifest and the signature is read; UsageError for a file that is not a public
    key.
    """
    if public_key is None:
        return Bundle.open(folder)
    key = load_public_key(public_key)

    def check(manifest: bytes, files: BundleFiles) -> None:
        check_signature(manifest, files, key)

    bundle = Bundle.open(folder, check=check)
    bundle.check_all()
    return bundle


def read_signature(files: BundleFiles) -> Signature | None:
    """The signature file of a bundle, not verified, or None if there is no such file."""
    try:
        content = read_regular_file(files.signature, max_bytes=MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(
            f"{printable(str(files.signature))}: cannot be read: {error.strerror}",
            hint="sign the bundle again",
        ) from error
    try:
        return Signature.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(
            f"{printable(str(files.signature))}: not a signature: "
            f"{validation_problems(error, 'signature')}",
            hint="sign the bundle again",
        ) from error


def check_signature(manifest: bytes, files: BundleFiles, key: Ed25519PublicKey) -> None:
    """Raise BundleError unless `key` signed these bytes of a manifest."""
    from cryptography.exceptions import InvalidSignature

    signature = read_signature(files)
    required_id = key_id(key)
    if signature is None:
        raise BundleError(
            f"{printable(str(files.folder))}: is not signed, and a signature by key {required_id} "
            "is required",
            hint="`export-classifier sign` signs it",
        )
    try:
        key.verify(base64.b64decode(signature.signature, validate=True), manifest)
    except (InvalidSignature, ValueError) as error:
        if signature.key_id != required_id:
            raise BundleError(
                f"{printable(str(files.folder))}: is signed by key {signature.key_id}, and a "
                f"signature by key {required_id} is required",
                hint="name the public key of whoever signed it, if you trust them",
            ) from error
        raise BundleError(
            f"{printable(str(files.manifest))}: changed since it was signed by key {required_id}",
            hint="copy the bundle again, or have it signed again by someone who checked it",
        ) from error


def key_id(key: Ed25519PublicKey) -> str:
    """Short name of a public key: the first digits of the sha256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:KEY_ID_CHARS]


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key in PEM format. Raises UsageError for any other file."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise UsageError(f"signatures need the package cryptography: {error}", hint=INSTALL) from (
            error
        )
    shown = printable(str(path))
    try:
        content = read_regular_file(path, max_bytes=MAX_KEY_BYTES)
        if b"PRIVATE KEY" in content:
            raise UsageError(
                f"{shown}: is a private key; a signature is verified with the public key",
                hint="name its .pub file, and keep this file secret",
            )
        key = load_pem_public_key(content)
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{shown}: not a public key in PEM format: {one_line(error)}",
            hint="`export-classifier keygen` makes a pair of keys",
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{shown}: is a {type(key).__name__}, not an Ed25519 public key")
    return key
