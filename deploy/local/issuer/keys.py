"""The issuer's signing key and client secret: made once, kept in the data directory, readable by their owner alone."""

import json
import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_encode

KEY_FILE = "signing-key.pem"
SECRET_FILE = "client-secret"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """An ES256 key. `kid` is its RFC 7638 thumbprint, so the same key always has the same name."""

    private: ec.EllipticCurvePrivateKey
    kid: str

    @property
    def jwks(self) -> dict[str, Any]:
        """The key set that is published: the public part only."""
        return {"keys": [{**_public_fields(self.private), "kid": self.kid, "use": "sig", "alg": "ES256"}]}

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self.private, algorithm="ES256", headers={"kid": self.kid, "typ": "JWT"})


def _public_fields(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    fields: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return fields


def _signing_key(private: ec.EllipticCurvePrivateKey) -> SigningKey:
    canonical = json.dumps(_public_fields(private), sort_keys=True, separators=(",", ":"))
    return SigningKey(private=private, kid=base64url_encode(sha256(canonical.encode()).digest()).decode())


def load_signing_key(data: Path) -> SigningKey:
    """The key of this data directory, made if there is none. ValueError when the file is no such key."""
    path = data / KEY_FILE
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        _write_once(
            path,
            made.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is not an elliptic-curve key: move it away and start again")
    return _signing_key(private)


def load_client_secret(data: Path) -> str:
    """The secret of the CLI's and the apps' clients, made if there is none."""
    path = data / SECRET_FILE
    if not path.exists():
        _write_once(path, secrets.token_urlsafe(32).encode())
    return path.read_text().strip()


def _write_once(path: Path, content: bytes) -> None:
    """Write a new private file at once; where another process was first, its file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
