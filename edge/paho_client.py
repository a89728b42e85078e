"""The one door to paho-mqtt, which leaves outside what paho imports and we never reach.

paho uses urllib.request only to ask for a proxy, and only where PySocks is installed; http, email, tempfile and the
compressors come with it: 1.5 MB of the daemon's memory. A stand-in fetches the real module if it is ever asked for.
ssl stays: paho names its exceptions whenever a read would block.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PacketTypes", "Properties", "paho"]


class _Later(ModuleType):
    """Stands for a module until something in it is asked for."""

    def __getattr__(self, name: str) -> Any:
        """Fetch the real module, which takes this one's place in its package."""
        return getattr(import_module(self.__name__), name)


@contextmanager
def _later(module: str) -> Iterator[None]:
    """Let those who import a module within this block have it later; nobody else notices."""
    if module in sys.modules:
        yield
        return
    package, _, name = module.rpartition(".")
    sys.modules[module] = _Later(module)
    setattr(import_module(package), name, sys.modules[module])
    try:
        yield
    finally:
        del sys.modules[module]


with _later("urllib.request"):
    import paho.mqtt.client as paho
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
