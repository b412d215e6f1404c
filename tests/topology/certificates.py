"""A certificate authority for the tests, made by `openssl` and thrown away with their folder."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.lacking import needs_programs

_LIMIT_S = 20


@dataclass(frozen=True)
class Certificates:
    """What one authority has signed: a server's certificate, and a client's."""

    folder: Path

    @property
    def server_options(self) -> tuple[str, ...]:
        """For a server that speaks TLS only to clients whose certificates it trusts."""
        return (
            *("--tls-cert-file", f"{self.folder}/server.crt"),
            *("--tls-key-file", f"{self.folder}/server.key"),
            *("--tls-ca-cert-file", f"{self.folder}/ca.crt"),
            *("--tls-auth-clients", "yes"),
        )

    @property
    def client_settings(self) -> dict[str, str]:
        """As redis-py takes them."""
        return {
            "ssl_certfile": f"{self.folder}/client.crt",
            "ssl_keyfile": f"{self.folder}/client.key",
            "ssl_ca_certs": f"{self.folder}/ca.crt",
        }

    def client(self, port: int) -> redis.Redis:
        """A client of a user's, with their certificate."""
        settings: Any = self.client_settings  # redis-py's options are of many types
        return redis.Redis("127.0.0.1", port, ssl=True, **settings)

    def query(self, *left_out: str) -> str:
        """As a URL has them."""
        kept = {name: path for name, path in self.client_settings.items() if name not in left_out}
        return "&".join(f"{name}={path}" for name, path in kept.items())


def make_certificates(folder: Path) -> Certificates:
    """An authority of its own, a server for localhost and 127.0.0.1, a client."""
    needs_programs("openssl")
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    signs = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # or Python 3.13 does not trust it
    _openssl(folder, "req", "-x509", *key, *_files("ca"), "-subj", "/CN=test authority", *signs)
    signed = ("-x509", *key, "-CA", "ca.crt", "-CAkey", "ca.key")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
    _openssl(folder, "req", *signed, *_files("server"), "-subj", "/CN=s", "-addext", names, *leaf)
    _openssl(folder, "req", *signed, *_files("client"), "-subj", "/CN=c", *leaf)
    return Certificates(folder)


def _files(name: str) -> tuple[str, ...]:
    return "-keyout", f"{name}.key", "-out", f"{name}.crt"


def _openssl(folder: Path, *arguments: str) -> None:
    made = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=_LIMIT_S
    )
    if made.returncode:
        pytest.skip(f"needs an openssl that makes certificates: {made.stderr.splitlines()[:1]}")
