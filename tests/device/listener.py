"""A subscriber with TLS and a password: prints each MQTT message as one line of JSON."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho


def main() -> None:
    """Subscribe to everything until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", type=Path, required=True)
    parser.add_argument("--username", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    options = parser.parse_args()
    settings: dict[str, Any] = {}
    if hasattr(paho, "CallbackAPIVersion"):  # paho 2
        settings["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
    client = paho.Client(**settings)
    client.username_pw_set(options.username, options.password_file.read_text(encoding="utf-8").strip())
    client.tls_set(str(options.ca))
    client.on_connect = lambda *_: client.subscribe("#", qos=1)
    client.on_subscribe = lambda *_: _print({"ready": True})
    client.on_message = lambda _client, _userdata, message: _print(
        {"topic": message.topic, "payload": message.payload.decode(), "received_s": time.time()}
    )
    client.connect(options.host, options.port)
    client.loop_forever()


def _print(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
