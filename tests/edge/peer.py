"""The far end of a TCP connection, for brokers that no real one would be."""

from __future__ import annotations

import socket
import threading
from typing import Self


class Peer:
    """Listens on a free port of loopback while it is entered; serves one connection after the other, in a thread."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self.port = int(self._server.getsockname()[1])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._server.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                other, _ = self._server.accept()
            except TimeoutError:
                continue
            with other:
                other.settimeout(0.05)
                self._serve(other)

    def _serve(self, other: socket.socket) -> None:
        """Talk until the other end has gone, or `_stopping` is set; reads time out after 0.05 s."""
        raise NotImplementedError
