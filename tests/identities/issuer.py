"""A real OpenID Connect issuer on loopback: it serves discovery and a key set over HTTP, and signs what it is told."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "channel-gate"


class SigningKey:
    """A private key and how it is published."""

    def __init__(self, algorithm: str, kid: str) -> None:
        self.algorithm, self.kid = algorithm, kid
        self.private: Any
        if algorithm == "RS256":
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            published = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        elif algorithm == "ES256":
            self.private = ec.generate_private_key(ec.SECP256R1())
            published = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = ed25519.Ed25519PrivateKey.generate()
            published = OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        self.published = {**published, "kid": kid, "use": "sig", "alg": algorithm}


class Issuer:
    """`requests` are the paths asked for; `status` other than 200 makes it fail."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.requests: list[str] = []
        self.status = 200
        self.discovery_issuer: str | None = None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                body = json.dumps(issuer.document(self.path)).encode()
                self.send_response(issuer.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/keys"

    def document(self, path: str) -> dict[str, Any]:
        if path == "/keys":
            return {"keys": [key.published for key in self.keys]}
        return {"issuer": self.discovery_issuer or self.url, "jwks_uri": self.jwks_url}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of a person that hold for five minutes; a change to None leaves the claim out."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "person-7",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "roles": ["analyst", "reviewer"],
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(self, key: SigningKey | None = None, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token that is really signed, by the first key unless another is given."""
        key = key or self.keys[0]
        return jwt.encode(
            self.claims(**changes), key.private, algorithm=key.algorithm, headers={"kid": key.kid, **(headers or {})}
        )
