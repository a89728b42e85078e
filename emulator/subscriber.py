"""A subscriber of its own, as any user would write one: prints each MQTT message as one line of JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import paho.mqtt.client as paho


def main() -> int:
    """Subscribe until the broker goes or the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m emulator.subscriber", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", required=True)
    options = parser.parse_args()
    settings: dict[str, Any] = {}
    if hasattr(paho, "CallbackAPIVersion"):  # paho 2
        settings["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
    client = paho.Client(**settings)
    client.on_connect = lambda *_: client.subscribe(options.topic, qos=1)
    client.on_subscribe = lambda *_: _print({"ready": True})
    client.on_message = lambda _client, _userdata, message: _print(
        {
            "topic": message.topic,
            "payload": message.payload.decode(),
            "retained": bool(message.retain),
            "received_s": time.time(),
        }
    )
    client.connect("127.0.0.1", options.port)
    client.loop_forever()
    return 0


def _print(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
