"""A certificate authority for a test, by the openssl command."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Signs certificates; everything it makes lies in one folder."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.directory = directory
        self.certificate = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        _openssl(
            "req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate
        )

    def issue(self, name: str, *, alternative: str = "IP:127.0.0.1", days: int = 2) -> Path:
        """Return a certificate with its key beside it (.key); days: -1 for one that has expired."""
        path = self.directory / f"{name}.pem"
        request, key = path.with_suffix(".csr"), path.with_suffix(".key")
        subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}")
        _openssl("req", "-new", *_KEY, *subject, "-keyout", key, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", str(days), "-copy_extensions", "copyall", "-out", path,
        )  # fmt: skip
        return path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
