"""One MQTT connection after the other, each with a paho client of its own, over paho 1.6 and 2.

The rules of this module:
- paho never reconnects. A client that lost its connection is thrown away with everything it had queued, so a message
  is sent again by the outbox or by nobody, never by both.
- A supervisor thread connects, waits for the end, waits again (full jitter) and starts over. Nothing here blocks or
  raises into the thread that publishes.
- paho's own thread is never started: it would wake up for every message and every acknowledgement. The supervisor
  drives the client until the broker has answered; from then on the publisher's thread does, once per turn (pump).
- Only the PUBACK of QoS 1 counts as delivered. Acknowledgements are collected here and fetched by the publisher, so
  its books need no lock.
- MQTT 5 first; a broker that refuses it, or closes the connection without a word, is asked again with 3.1.1.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge.config import Mqtt

log = logging.getLogger(__name__)

CREDENTIAL = "footfall.mqtt-password"
_CONNACK_TIMEOUT_S = 10.0
_STABLE_S = 30.0  # a connection that ends sooner does not reset the back-off: two devices with one id would storm
_UNSUPPORTED_PROTOCOL = 132
_FAILURE = 128  # MQTT 5 reason codes from here on are errors
_MQTT3_CONNACK = {1: 132, 2: 133, 3: 136, 4: 134, 5: 135}  # paho 1.6 hands these over as they are on the wire
_BROKEN = (paho.MQTT_ERR_CONN_LOST, paho.MQTT_ERR_UNKNOWN, _FAILURE)  # what paho says when it knows no reason
_REFUSALS = {
    133: "the broker does not accept our client id",
    134: "the broker refuses the user name or password: check mqtt.username and mqtt.password_file",
    135: "the broker does not let this user in: check mqtt.username, mqtt.password_file and the broker's ACL",
    136: "the broker is unavailable",
    138: "the broker has banned this client",
}


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: uniform between 0 and the smaller of cap_s and base_s * 2^failures."""

    base_s: float = 1.0
    cap_s: float = 60.0

    def delay_s(self, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Return how long to wait after so many failures in a row."""
        return uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(failures, 32)))


@dataclass(frozen=True, slots=True)
class Ack:
    """A PUBACK; accepted is False where MQTT 5 says that the broker refused the message."""

    mid: int
    accepted: bool


class Session:
    """One connection: the supervisor's until it is accepted, the publisher's thread's from then on."""

    def __init__(self, client: Any) -> None:
        self.acks: deque[Ack] = deque()
        self.answered = threading.Event()
        self.ended = threading.Event()
        self.refusal: int | None = None
        self.accepted = False
        self.reason = ""
        self._client = client
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int | None:
        """Send with QoS 1; return the message id whose Ack will follow, or None when the connection is gone."""
        if self.ended.is_set():
            return None
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        return int(sent.mid) if sent.rc == paho.MQTT_ERR_SUCCESS else None

    def pump(self) -> None:
        """Take what the broker has sent, send what still waits, ping when it is time; never blocks."""
        if self.ended.is_set():
            return
        self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()

    def wait_for_answer(self, timeout_s: float) -> None:
        """Drive the client until the broker has answered our CONNECT, the connection is gone, or time is up."""
        deadline_s = time.monotonic() + timeout_s
        while not self.answered.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
            self._client.loop(timeout=min(left_s, 1.0))

    def release(self) -> None:
        """Let go of each other: paho closes its wake-up sockets when the last reference to a client goes."""
        self._client.on_connect = self._client.on_publish = self._client.on_disconnect = None

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, *_: Any) -> None:
        code = _code(reason)
        if code >= _FAILURE or code in _MQTT3_CONNACK:
            self.refusal = _MQTT3_CONNACK.get(code, code)
        else:
            self.accepted = True
        self.answered.set()

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, reason: Any = None, *_: Any) -> None:
        # paho 1.6 hands over no reason: there a refused message looks accepted, as it does to every MQTT 3 client.
        self.acks.append(Ack(mid, reason is None or _code(reason) < _FAILURE))

    def _on_disconnect(self, _client: Any, _userdata: Any, *details: Any) -> None:
        # (flags, reason, properties) from paho 2, (reason[, properties]) from 1.6; twice after a keepalive timeout.
        if not self.ended.is_set():
            reason = details[1] if len(details) == 3 else details[0]
            self.reason = "the connection broke" if _code(reason) in _BROKEN else str(reason)
        self.ended.set()
        self.answered.set()


@dataclass(frozen=True, slots=True)
class Will:
    """The retained message that the broker publishes when this device vanishes."""

    topic: str
    payload: bytes


class Link:
    """Keeps one session open; `session` is None while there is none."""

    def __init__(
        self,
        settings: Mqtt,
        client_id: str,
        will: Will,
        environ: Mapping[str, str],
        *,
        backoff: Backoff,
        clock: Callable[[], float],
    ) -> None:
        self.session: Session | None = None
        self.connections = 0
        self._settings, self._client_id, self._will, self._environ = settings, client_id, will, environ
        self._backoff, self._clock = backoff, clock
        self._complaints = Complaints(clock)
        self._protocol = paho.MQTTv5
        self._stopping = threading.Event()
        self._client: Any = None
        # A daemon thread: a name server that does not answer must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="mqtt-link", daemon=True)

    @property
    def where(self) -> str:
        """The broker's address, for messages."""
        return f"{self._settings.host}:{self._settings.port}"

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the session with a DISCONNECT, which keeps the will from being sent; wait at most timeout_s."""
        self._stopping.set()
        session, client = self.session, self._client
        if session is not None and client is not None:
            client.disconnect()
            session.ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began_s = self._clock()
            try:
                reason = self._connect_and_wait()
            except Exception as error:  # noqa: BLE001  whatever it is, the device must come back online one day
                reason = f"unexpected {error!r}"
            if reason is None or self._stopping.is_set():
                continue
            if reason:
                self._complaints.log(f"no MQTT broker at {self.where}: {reason}; steps wait in the outbox")
                self._protocol = paho.MQTTv5
            failures = 0 if self._clock() - began_s >= _STABLE_S else failures
            self._stopping.wait(self._backoff.delay_s(failures))
            failures += 1

    def _connect_and_wait(self) -> str | None:
        """Hold one connection from CONNECT to its end.

        Returns "" after a session, the reason where there was none, None to try the other protocol at once.
        """
        try:
            client = self._client = self._new_client()
        except (OSError, ValueError) as error:  # ValueError: ssl and paho about a file, a host or a name
            return _explained(error)
        session = Session(client)
        try:
            client.connect(self._settings.host, self._settings.port, keepalive=self._settings.keepalive_s)
            return self._hold(session)
        except (OSError, ValueError) as error:
            return _explained(error)
        finally:
            self.session = None
            client.disconnect()
            session.release()

    def _hold(self, session: Session) -> str | None:
        """Wait for the broker's word, and then for the end."""
        session.wait_for_answer(_CONNACK_TIMEOUT_S)
        if not session.accepted:
            return self._refused(session)
        self._open(session)
        session.ended.wait()
        self._lost(session)
        return ""

    def _open(self, session: Session) -> None:
        version = "5" if self._protocol == paho.MQTTv5 else "3.1.1"
        log.info("connected to the MQTT broker at %s (MQTT %s)", self.where, version)
        self._complaints.clear()
        self.connections += 1
        self.session = session
        if self._stopping.is_set():  # stop() came before it could see this session
            session.ended.set()

    def _lost(self, session: Session) -> None:
        if not self._stopping.is_set():
            self._complaints.log(f"lost the MQTT broker at {self.where}: {session.reason}; steps wait in the outbox")

    def _refused(self, session: Session) -> str | None:
        """Return why the broker does not want us; None where it may just not know MQTT 5."""
        if not session.answered.is_set():
            return f"it accepts connections but has not answered for {_CONNACK_TIMEOUT_S:.0f} s"
        if session.refusal in (None, _UNSUPPORTED_PROTOCOL) and self._protocol == paho.MQTTv5:
            self._protocol = paho.MQTTv311
            return None
        if session.refusal is None:
            return "it closed the connection at once: is this an MQTT broker, and does it want TLS (mqtt.tls.ca_file)?"
        return _REFUSALS.get(session.refusal, f"the broker refuses the connection (reason code {session.refusal})")

    def _new_client(self) -> Any:
        settings = self._settings
        options: dict[str, Any] = {"protocol": self._protocol, "reconnect_on_failure": False}
        if self._protocol != paho.MQTTv5:
            options["clean_session"] = True
        if hasattr(paho, "CallbackAPIVersion"):  # paho 2
            options["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        client = paho.Client(client_id=self._client_id, **options)
        client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        if settings.username is not None:
            client.username_pw_set(settings.username, read_password(settings, self._environ))
        if settings.tls.ca_file is not None:
            client.tls_set_context(_tls_context(settings.tls.ca_file))
        return client


class Complaints:
    """Logs a complaint when it is new, and again after 1 min, 2 min, 4 min … up to once an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, tuple[float, float]] = {}

    def log(self, message: str) -> None:
        """Log the message as a warning, unless it is too soon to repeat it."""
        due_s, pause_s = self._due.get(message, (-float("inf"), 60.0))
        if self._clock() >= due_s:
            log.warning("%s", message)
            self._due[message] = (self._clock() + pause_s, min(2.0 * pause_s, 3600.0))

    def clear(self) -> None:
        """Start over: the trouble has passed."""
        self._due.clear()


def read_password(settings: Mqtt, environ: Mapping[str, str]) -> str | None:
    """Return the first line of mqtt.password_file, or of the systemd credential; None where neither is set.

    Read anew for every connection, so that a changed password needs no restart. Raises OSError, ValueError.
    """
    path = settings.password_file
    if path is None and (directory := environ.get("CREDENTIALS_DIRECTORY")):
        credential = Path(directory) / CREDENTIAL
        path = credential if credential.exists() else None
    if path is None:
        return None
    return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")


def _tls_context(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # it names no file, and may be an SSLError
        raise ValueError(f"mqtt.tls.ca_file {ca_file}: {getattr(error, 'reason', error.strerror)}") from error


def _code(reason: Any) -> int:
    """Return a reason code as a number: paho hands over an int or an object, depending on its version."""
    return int(getattr(reason, "value", reason))


def _explained(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message}): check mqtt.tls.ca_file and mqtt.host"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails ({error.reason or error}): check mqtt.port and mqtt.tls.ca_file"
    if isinstance(error, OSError):
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror or error}"
    return str(error)
