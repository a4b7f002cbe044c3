"""Signing a bundle: `bundle.json.sig` beside `bundle.json`."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from batch.scoring.signature import INSTALL, MAX_KEY_BYTES, Signature, key_id
from schemas.bundle.folder import Bundle
from schemas.errors import UsageError
from schemas.io.files import write_atomic
from schemas.io.regular_file import read_regular_file

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
except ImportError as error:
    raise UsageError(f"signing needs the package cryptography: {error}", hint=INSTALL) from error


def make_keys(private: Path) -> Path:
    """Write a new private key, readable by its owner only, and the public key beside it.

    Both are PEM, the private one without a password. Returns the path of the public key, that of
    the private one with `.pub` added. Raises UsageError rather than replace a file.
    """
    public = private.with_name(private.name + ".pub")
    for path in (private, public):
        if path.exists():
            raise UsageError(
                f"{path}: is there already, and a lost key cannot be made again",
                hint="name another file",
            )
    key = Ed25519PrivateKey.generate()
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return public


def sign_bundle(folder: Path, private_key: Path) -> Signature:
    """Sign a bundle in place of any earlier signature.

    Raises BundleError for a bundle with a file that was changed, UsageError for an invalid key.
    """
    key = _load_private_key(private_key)
    manifests: list[bytes] = []
    bundle = Bundle.open(folder, check=lambda manifest, _: manifests.append(manifest))
    bundle.check_all()
    signature = Signature(
        key_id=key_id(key.public_key()),
        signature=base64.b64encode(key.sign(manifests[0])).decode("ascii"),
    )
    write_atomic(bundle.files.signature, signature.model_dump_json(indent=1) + "\n")
    return signature


def _load_private_key(path: Path) -> Ed25519PrivateKey:
    try:
        content = read_regular_file(path, max_bytes=MAX_KEY_BYTES)
        key = serialization.load_pem_private_key(content, password=None)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise UsageError(
            f"{path}: is locked with a password",
            hint="unlock it into a file of its own: openssl pkey -in KEY -out UNLOCKED",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{path}: not a private key in PEM: {error}",
            hint="`export-classifier keygen` makes a pair of keys; the public one cannot sign",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: is a {type(key).__name__}, not an Ed25519 private key")
    return key
