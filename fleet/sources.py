"""Where the collector gets messages from: a RabbitMQ queue, or an MQTT 5 broker's shared subscription.

Both hand over messages in blocks and are told when a block is safe. What was not told so comes again, to this collector
or to another one.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFETCH = 2000
"""Messages that a broker may hand out before one is acknowledged."""
QUEUE = "footfall-steps"
CLOSE_S = 5.0
GATHER_S = 0.3
"""How long a block is gathered: a transaction for a single step would waste the database's time."""


class Message(NamedTuple):
    """One message as it came; tag: what the source needs to acknowledge it."""

    topic: str
    payload: bytes
    tag: int


class Source(Protocol):
    """Raises ConnectionError from both methods when the broker is gone; then it must be opened anew."""

    def take(self, most: int) -> list[Message]:
        """Return up to so many messages, after about GATHER_S at most; none is no error."""

    def done(self, messages: Sequence[Message]) -> None:
        """Say that all of these, and with them everything before them, are stored."""

    def close(self) -> None:
        """Release the connection; what was not acknowledged comes again. May be called twice."""


class AmqpSource:
    """A quorum queue in RabbitMQ, bound to what its MQTT plug-in publishes.

    urls: amqp://user:password@host:port/, tried in order. declare(): makes queue and bindings, which must exist
    *before* the first device publishes: RabbitMQ acknowledges a message for which there is no queue, and drops it.
    """

    def __init__(self, urls: Sequence[str], base_topic: str) -> None:
        import pika  # noqa: PLC0415  an optional extra

        self._errors: tuple[type[Exception], ...] = (pika.exceptions.AMQPError, OSError)
        problems = []
        for url in urls:
            parameters = pika.URLParameters(url)
            parameters.heartbeat, parameters.blocked_connection_timeout = 10, 60
            parameters.socket_timeout = 5
            try:
                self._connection = pika.BlockingConnection(parameters)
                break
            except self._errors as error:
                problems.append(f"{parameters.host}:{parameters.port}: {error or type(error).__name__}")
        else:
            raise ConnectionError("; ".join(problems))
        self._channel = self._connection.channel()
        self.declare(base_topic)
        self._channel.basic_qos(prefetch_count=PREFETCH)
        self._coming: list[Message] = []
        self._channel.basic_consume(QUEUE, self._on_message)

    def declare(self, base_topic: str) -> None:
        """Make the queue, replicated over the cluster's nodes, and bind it to all devices."""
        self._channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        key = base_topic.replace("/", ".")
        for name in ("step", "batch"):
            self._channel.queue_bind(QUEUE, "amq.topic", f"{key}.*.{name}")

    def take(self, most: int) -> list[Message]:
        """Return up to so many messages."""
        try:
            deadline_s = time.monotonic() + GATHER_S
            while len(self._coming) < most and (left_s := deadline_s - time.monotonic()) > 0:
                self._connection.process_data_events(time_limit=left_s)
        except self._errors as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        taken, self._coming = self._coming[:most], self._coming[most:]
        return taken

    def done(self, messages: Sequence[Message]) -> None:
        """Acknowledge up to the last of them."""
        try:
            self._channel.basic_ack(messages[-1].tag, multiple=True)
        except self._errors as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Release the connection, without waiting long for a broker that is busy with thousands of others."""
        if self._connection.is_open:
            polite = threading.Thread(target=self._say_goodbye, daemon=True)
            polite.start()
            polite.join(CLOSE_S)

    def _say_goodbye(self) -> None:
        with contextlib.suppress(*self._errors):
            self._connection.close()

    def _on_message(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._coming.append(Message(method.routing_key, body, method.delivery_tag))


class MqttSource:
    """A shared subscription `$share/GROUP/BASE/+/…` at an MQTT 5 broker (Mosquitto, EMQX, HiveMQ, managed ones).

    Needs paho 2: only it can hold an acknowledgement back until the steps are stored.
    """

    def __init__(self, client: Any, base_topic: str, group: str) -> None:
        self._client = client
        self._coming: queue.Queue[Message] = queue.Queue()
        self._gone = threading.Event()
        self._topics = [(f"$share/{group}/{base_topic}/+/{name}", 1) for name in ("step", "batch")]

    @classmethod
    def connect(
        cls,
        host: str,
        port: int,
        *,
        base_topic: str,
        client_id: str,
        group: str = "footfall",
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
    ) -> Self:
        """Connect and subscribe; the session outlives the connection by a day. Raises ConnectionError, UsageError."""
        import paho.mqtt.client as paho  # noqa: PLC0415
        from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415
        from paho.mqtt.properties import Properties  # noqa: PLC0415

        if not hasattr(paho, "CallbackAPIVersion"):
            raise UsageError("the collector needs paho-mqtt 2 for MQTT: pip install 'paho-mqtt>=2'")
        make: Any = paho.Client  # the stubs know paho 1 only
        client = make(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        if username:
            client.username_pw_set(username, password)
        if ca_file:
            client.tls_set(ca_certs=ca_file)
        source = cls(client, base_topic, group)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval, properties.ReceiveMaximum = 86_400, PREFETCH
        client.on_message = source._on_message
        client.on_disconnect = lambda *_: source._gone.set()
        answered = threading.Event()
        refused: list[str] = []

        def on_connect(_client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                refused.append(str(reason))
            else:
                client.subscribe(source._topics)
            answered.set()

        client.on_connect = on_connect
        try:
            client.connect(host, port, keepalive=30, clean_start=False, properties=properties)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"{host}:{port}: {error}") from error
        client.loop_start()
        if not answered.wait(10.0) or refused:
            source.close()
            raise ConnectionError(f"{host}:{port}: {refused[0] if refused else 'no answer within 10 s'}")
        return source

    def take(self, most: int) -> list[Message]:
        """Return up to so many messages."""
        taken: list[Message] = []
        deadline_s = time.monotonic() + GATHER_S
        while len(taken) < most and (left_s := deadline_s - time.monotonic()) > 0:
            try:
                taken.append(self._coming.get(timeout=left_s))
            except queue.Empty:
                break
        if not taken and self._gone.is_set():
            raise ConnectionError("the broker has closed the connection")
        return taken

    def done(self, messages: Sequence[Message]) -> None:
        """Acknowledge each."""
        for message in messages:
            self._client.ack(message.tag, 1)

    def close(self) -> None:
        """Release the connection; the broker keeps the session."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_message = self._client.on_connect = self._client.on_disconnect = None

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        self._coming.put(Message(message.topic, bytes(message.payload), message.mid))
