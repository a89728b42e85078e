"""A subscriber that keeps books: what came, how often, in which order, and whether a total ever went down."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from typing import Any

import paho.mqtt.client as paho

PATIENCE_S = 30.0


class Recorder:
    """Subscribes at the broker itself, past the proxy.

    steps: confidence in percent of each (boot, seq) at its first arrival. base: the lifetime total before a boot's
    first step, as its messages say. repeats: arrivals after the first. order_violations: first arrivals behind a later
    one of the same boot. total_went_down: how often any total that arrived was smaller than one before it.
    contradictions: messages of a boot that disagree about its base.
    """

    def __init__(self, port: int) -> None:
        self.steps: dict[str, dict[int, int]] = defaultdict(dict)
        self.base: dict[str, int] = {}
        self.repeats = self.order_violations = self.total_went_down = self.contradictions = 0
        self.live = self.batched = 0
        self.received = 0
        self.notes: list[str] = []
        self._newest: dict[str, int] = defaultdict(int)
        self._highest_total: dict[str, int] = defaultdict(int)
        self._port = port
        self._client: Any = None
        self._gone = threading.Event()

    def connect(self) -> None:
        """Subscribe; returns when the broker has confirmed it."""
        options: dict[str, Any] = {"reconnect_on_failure": False}
        if hasattr(paho, "CallbackAPIVersion"):
            options["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        client = self._client = paho.Client(**options)
        subscribed, self._gone = threading.Event(), threading.Event()
        gone = self._gone
        # QoS 0: with QoS 1 paho answers each message, and when the broker has been killed the answer fails and paho
        # closes with the rest unread: 298 of 300 acknowledged messages in a trial, none with QoS 0. TCP keeps order.
        client.on_connect = lambda *_: client.subscribe("#", qos=0)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_disconnect = lambda *_: gone.set()
        client.on_message = self._on_message
        client.connect("127.0.0.1", self._port, keepalive=600)
        client.loop_start()
        assert subscribed.wait(PATIENCE_S), "the subscriber cannot subscribe"

    def wait_gone(self) -> None:
        """Read what a killed broker still sent, up to the end of its connection."""
        assert self._gone.wait(PATIENCE_S), "the subscriber has not noticed that the broker is gone"
        self._release()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._release()

    def _release(self) -> None:
        client, self._client = self._client, None
        client.loop_stop()
        client.on_connect = client.on_subscribe = client.on_disconnect = client.on_message = None

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        name = message.topic.rpartition("/")[2]
        if name == "step":
            body = json.loads(message.payload)
            self.live += 1
            self._take(body["boot_id"], body["seq"], [round(body["confidence"] * 100.0)], body["total"])
        elif name == "batch":
            body = json.loads(message.payload)
            self.batched += 1
            assert len(body["dt"]) == len(body["confidence"])
            self._take(body["boot_id"], body["seq0"], body["confidence"], body["total"])
        elif name == "steps":
            self._watch(name, int(message.payload))
        elif name == "state":
            self._watch(name, json.loads(message.payload)["total"])

    def _take(self, boot: str, seq0: int, confidences: list[int], total: int) -> None:
        base = total - (seq0 + len(confidences) - 1)
        if self.base.setdefault(boot, base) != base:
            self.contradictions += 1
            self.notes.append(f"{boot} seq {seq0}+{len(confidences)} says total {total}: began at {self.base[boot]}")
        for seq, confidence in enumerate(confidences, start=seq0):
            if seq in self.steps[boot]:
                self.repeats += 1
                continue
            self.steps[boot][seq] = confidence
            self.received += 1
            self.order_violations += seq < self._newest[boot]
            self._newest[boot] = max(self._newest[boot], seq)

    def _watch(self, name: str, total: int) -> None:
        self.total_went_down += total < self._highest_total[name]
        self._highest_total[name] = max(self._highest_total[name], total)
