"""Checks device discovery payloads with Home Assistant's own schemas: one JSON a line in, a list of faults a line out.

Run by Home Assistant's Python: it imports nothing of Footfall. Home Assistant drops unknown options without a word and
takes topics with wildcards, so both are looked for here.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import tempfile
from typing import Any

import voluptuous as vol
from homeassistant.components.mqtt.const import SUPPORTED_COMPONENTS
from homeassistant.components.mqtt.discovery import (
    MQTTDiscoveryPayload,
    _replace_all_abbreviations,
)
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA, SHARED_OPTIONS
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame


def problems(text: str) -> list[str]:
    """Return everything that Home Assistant would refuse, drop or misunderstand."""
    payload = MQTTDiscoveryPayload(json.loads(text))
    _replace_all_abbreviations(payload)
    try:
        DEVICE_DISCOVERY_SCHEMA(payload)
    except vol.Invalid as error:
        return [f"device: {one}" for one in getattr(error, "errors", [error])]
    shared = {name: payload[name] for name in SHARED_OPTIONS if name in payload}
    found = []
    for name, options in payload["components"].items():
        found += [f"{name}: {one}" for one in _component(dict(options), shared, payload)]
    return found


def _component(options: dict[str, Any], shared: dict[str, Any], payload: dict[str, Any]) -> list[str]:
    platform = options.pop("platform")
    if platform not in SUPPORTED_COMPONENTS:
        return [f"platform {platform!r} unknown"]
    module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
    try:
        module.DISCOVERY_SCHEMA({**shared, **options, "device": payload["device"], "origin": payload["origin"]})
    except vol.Invalid as error:
        return [str(one) for one in getattr(error, "errors", [error])]
    found = [
        f"{key}: wildcard in {value!r}"
        for key, value in options.items()
        if key.endswith("topic") and set("+#") & set(value)
    ]
    schema = getattr(module, "_PLATFORM_SCHEMA_BASE", module.PLATFORM_SCHEMA_MODERN)
    known = {str(key) for key in schema.schema}
    return found + [f"option {key!r} would be dropped without a word" for key in options if key not in known]


async def main() -> None:
    """Check each payload inside an event loop with a core, which Home Assistant's templates ask for."""
    core = HomeAssistant(tempfile.mkdtemp())
    getattr(frame, "async_setup", lambda _: None)(core)
    for line in sys.stdin:
        print(json.dumps(problems(line)))


asyncio.run(main())
