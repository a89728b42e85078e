"""Home Assistant: one device-based discovery message, when to send it and when to take it back.

Source: https://www.home-assistant.io/integrations/mqtt/#discovery-messages-and-components, checked against Home
Assistant's own schemas by tests/edge/test_home_assistant.py.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.mqtt_channel import Channel
    from edge.mqtt_session import Incoming
    from edge.payloads import DeviceInfo
    from edge.settings import Config

STATUS_TOPIC = "homeassistant/status"
SETTLE_S = 2.0
"""From the discovery message to the first state: Home Assistant subscribes in between, and events are not retained."""
RETURN_WITHIN_S = 10.0
"""After its restart Home Assistant hears from all devices, spread over so long."""


def discovery_topic(device_id: str) -> str:
    """Return where Home Assistant looks for this device."""
    return f"homeassistant/device/{device_id}/config"


def discovery(config: Config, info: DeviceInfo) -> dict[str, Any]:
    """Describe the device and its entities; the event entity only where single steps are published."""
    identity, base = f"footfall_{config.device.id}", config.mqtt.base_topic
    components = {**_counts(), **_diagnostics()}
    if not config.mqtt.batch_s:
        components["step"] = {
            "platform": "event", "name": "Step", "icon": "mdi:shoe-print", "state_topic": "step",
            "event_types": ["step"],
        }  # fmt: skip
    return {
        "device": {
            "identifiers": [identity],
            "name": f"Footfall {config.device.id}",
            "manufacturer": "Footfall",
            "model": info.sensor,
            "sw_version": info.software_version,
        },
        "origin": {"name": "Footfall", "sw_version": info.software_version},
        "availability_topic": f"{base}/availability",
        "qos": 1,
        # In full: Home Assistant's core refuses the short form with "~" in a message about a device (2025.4.4).
        "components": {
            name: {**options, "state_topic": f"{base}/{options['state_topic']}", "unique_id": f"{identity}_{name}"}
            for name, options in components.items()
        },
    }


def _counts() -> dict[str, dict[str, Any]]:
    return {
        "steps": {
            "platform": "sensor", "name": "Steps", "icon": "mdi:walk", "state_topic": "steps",
            "state_class": "total_increasing", "unit_of_measurement": "steps",
        },
        "today": {
            "platform": "sensor", "name": "Steps today", "icon": "mdi:calendar-today", "state_topic": "state",
            "value_template": "{{ value_json.today }}", "state_class": "total_increasing",
            "unit_of_measurement": "steps",
        },
        "cadence": {
            "platform": "sensor", "name": "Cadence", "icon": "mdi:metronome", "state_topic": "state",
            "value_template": "{{ value_json.cadence_spm | default(0, true) }}", "state_class": "measurement",
            "unit_of_measurement": "steps/min",
        },
        "last_step": {
            "platform": "sensor", "name": "Last step", "device_class": "timestamp", "state_topic": "state",
            "value_template": "{{ value_json.last_step }}",
        },
        "quality": {
            "platform": "sensor", "name": "Quality", "device_class": "enum", "state_topic": "state",
            "value_template": "{{ value_json.quality }}", "options": ["ok", "degraded", "no_sensor"],
            "entity_category": "diagnostic",
        },
    }  # fmt: skip


def _diagnostics() -> dict[str, dict[str, Any]]:
    """Entities of the health topic; a figure that this machine does not have is null, and unknown to the user."""
    sensors: dict[str, dict[str, Any]] = {
        "soc_temperature_c": {"name": "Temperature", "device_class": "temperature", "unit_of_measurement": "°C"},
        "rss_mb": {"name": "Memory", "device_class": "data_size", "unit_of_measurement": "MB"},
        "cpu_percent": {"name": "CPU", "icon": "mdi:chip", "unit_of_measurement": "%"},
        "inference_p99_ms": {"name": "Inference time", "device_class": "duration", "unit_of_measurement": "ms"},
        "outbox_depth": {"name": "Steps waiting", "icon": "mdi:tray-full", "unit_of_measurement": "steps"},
        "outbox_dropped": {"name": "Steps dropped", "icon": "mdi:tray-alert", "unit_of_measurement": "steps"},
        "samples_dropped": {"name": "Samples dropped", "icon": "mdi:sine-wave"},
        "bus_errors": {"name": "Bus errors", "icon": "mdi:alert-circle-outline"},
        "reconnects": {"name": "Reconnects", "icon": "mdi:lan-disconnect"},
    }
    found: dict[str, dict[str, Any]] = {
        name: {
            "platform": "sensor", "state_topic": "health", "value_template": f"{{{{ value_json.{name} }}}}",
            "state_class": "measurement", "entity_category": "diagnostic", **options,
        }
        for name, options in sensors.items()
    }  # fmt: skip
    found["undervoltage"] = {
        "platform": "binary_sensor", "name": "Undervoltage", "device_class": "problem", "state_topic": "health",
        "value_template": (
            "{{ 'None' if value_json.undervoltage is none else 'ON' if value_json.undervoltage else 'OFF' }}"
        ),
        "entity_category": "diagnostic",
    }  # fmt: skip
    return found


class Announcer:
    """Sends the discovery message on each connection and after Home Assistant's start, or removes an old one.

    With the option off, a retained message of ours that is still there from the time when it was on is taken back; a
    broker that holds none is sent nothing.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._config, self._clock, self._uniform = config, clock, uniform
        self._topic = discovery_topic(config.device.id)
        self._due_s = float("inf")

    @property
    def is_on(self) -> bool:
        """Whether Home Assistant is to know this device."""
        return self._config.mqtt.home_assistant

    def begin(self, channel: Channel) -> None:
        """Listen to Home Assistant's birth, or look for what is to be removed."""
        channel.session.subscribe(STATUS_TOPIC if self.is_on else self._topic)
        self._due_s = self._clock() if self.is_on else float("inf")

    def renew(self) -> None:
        """Announce again: the device has changed."""
        if self.is_on:
            self._due_s = min(self._due_s, self._clock())

    def is_due(self) -> bool:
        """Whether payload() is to be published now."""
        return self._clock() >= self._due_s

    def announced(self) -> None:
        """Note that it was."""
        self._due_s = float("inf")

    def message(self, info: DeviceInfo) -> tuple[str, bytes]:
        """Return topic and payload of the discovery message."""
        return self._topic, json.dumps(discovery(self._config, info), separators=(",", ":")).encode()

    def hear(self, message: Incoming, channel: Channel) -> bool:
        """Take a message that is Home Assistant's or our own old discovery; return whether it was one."""
        if message.topic == STATUS_TOPIC:
            if self.is_on and not message.retained and message.payload == b"online":
                self._due_s = self._clock() + self._uniform(0.0, RETURN_WITHIN_S)
            return True
        if message.topic != self._topic:
            return False
        if not self.is_on and message.retained and _is_ours(message.payload):
            channel.publish(self._topic, b"", retain=True)
            channel.session.unsubscribe(self._topic)
        return True


def _is_ours(payload: bytes) -> bool:
    try:
        origin = json.loads(payload)["origin"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return isinstance(origin, dict) and origin.get("name") == "Footfall"
