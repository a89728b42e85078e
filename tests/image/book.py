"""What the image's tests write into footfall.yaml and read from the broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.image.raspi import HOST

if TYPE_CHECKING:
    from tests.broker import Broker, Subscriber

HEALTH_S = 10


def settings(broker: Broker, **more: object) -> bytes:
    """Return a footfall.yaml for this machine's broker."""
    wanted = {"mqtt": {"host": HOST, "port": broker.port}, "health": {"interval_s": HEALTH_S}, **more}
    return json.dumps(wanted).encode()


def device_ids(subscriber: Subscriber) -> list[str]:
    """Return the ids of the devices that have said that they are online, in the order of their first word."""
    online = [m.topic.split("/")[1] for m in subscriber.on("availability") if m.payload == b"online"]
    return list(dict.fromkeys(online))


def health(subscriber: Subscriber, device: str) -> dict[str, object]:
    """Return the device's latest health message."""
    found = [message for message in subscriber.on("health") if f"/{device}/" in message.topic]
    return dict(found[-1].json()) if found else {}
