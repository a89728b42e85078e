"""Prepares a configuration folder for a Home Assistant core nobody will click through; prints a long-lived token.

Run by Home Assistant's Python. argv: folder, port of the web server, port of the MQTT broker. It writes what the first
steps in the browser would: an owner, a token, the finished onboarding and the MQTT integration.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import sys
import time
from pathlib import Path

import jwt

CONFIGURATION = """
homeassistant:
  name: Test
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
frontend:
lovelace:
  mode: yaml
"""


def main() -> None:
    """Write the folder."""
    folder, web_port, mqtt_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    storage = folder / ".storage"
    storage.mkdir(parents=True)
    (folder / "configuration.yaml").write_text(CONFIGURATION.format(port=web_port), encoding="utf-8")
    now = dt.datetime.now(dt.UTC).isoformat()
    user, refresh, key = secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(64)
    write(storage, "auth", 1, 1, auth(user, refresh, key, now))
    write(storage, "onboarding", 4, 1, {"done": ["user", "core_config", "analytics", "integration"]})
    write(storage, "core.config_entries", 1, 5, {"entries": [mqtt_entry(mqtt_port, now)]})
    claims = {"iss": refresh, "iat": int(time.time()), "exp": int(time.time()) + 315360000}
    print(jwt.encode(claims, key, algorithm="HS256"))


def auth(user: str, refresh: str, key: str, now: str) -> dict[str, object]:
    """Make one owner with one token."""
    return {
        "users": [
            {
                "id": user, "group_ids": ["system-admin"], "is_owner": True, "is_active": True, "name": "test",
                "system_generated": False, "local_only": False,
            }
        ],
        "groups": [
            {"id": "system-admin", "name": "Administrators"},
            {"id": "system-users", "name": "Users"},
            {"id": "system-read-only", "name": "Read Only"},
        ],
        "credentials": [],
        "refresh_tokens": [
            {
                "id": refresh, "user_id": user, "client_id": None, "client_name": "ci", "client_icon": None,
                "token_type": "long_lived_access_token", "created_at": now,
                "access_token_expiration": 315360000.0, "token": secrets.token_hex(64), "jwt_key": key,
                "last_used_at": None, "last_used_ip": None, "expire_at": None, "credential_id": None, "version": "x",
            }
        ],
    }  # fmt: skip


def mqtt_entry(port: int, now: str) -> dict[str, object]:
    """Set the MQTT integration up."""
    return {
        "created_at": now, "modified_at": now,
        "data": {
            "broker": "127.0.0.1", "port": port, "discovery": True, "discovery_prefix": "homeassistant",
            "birth_message": {"topic": "homeassistant/status", "payload": "online", "qos": 0, "retain": False},
        },
        "disabled_by": None, "discovery_keys": {}, "domain": "mqtt", "entry_id": "01TESTMQTT0000000000000000",
        "minor_version": 2, "options": {}, "pref_disable_new_entities": False, "pref_disable_polling": False,
        "source": "user", "subentries": [], "title": "mqtt", "unique_id": None, "version": 1,
    }  # fmt: skip


def write(storage: Path, name: str, version: int, minor: int, data: object) -> None:
    """Write one of Home Assistant's stores."""
    body = {"version": version, "minor_version": minor, "key": name, "data": data}
    (storage / name).write_text(json.dumps(body), encoding="utf-8")


main()
