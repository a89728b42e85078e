"""From a configuration to an accepted MQTT connection, or to one clear sentence why there is none.

Everything here may block for seconds and runs in a thread of its own (edge.mqtt), or in `footfall doctor`.
"""

from __future__ import annotations

import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.mqtt_session import Session
from edge.paho_client import paho

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge.settings import Mqtt, Tls

CREDENTIAL = "footfall.mqtt-password"
CONNACK_TIMEOUT_S = 10.0
_UNSUPPORTED_PROTOCOL = 132
_CERTIFICATE_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH = 62, 64  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_REFUSALS = {
    133: "the broker does not accept our client id",
    134: "the broker refuses the user name or password: check mqtt.username and mqtt.password_file",
    135: "the broker does not let this user in: check mqtt.username, mqtt.password_file and the broker's ACL",
    136: "the broker is unavailable",
    137: "the broker is busy",
    138: "the broker has banned this client",
    159: "the broker limits how often we may connect",
}


@dataclass(frozen=True, slots=True)
class Will:
    """The retained message that the broker publishes when this device vanishes."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """As people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RefusedError(Exception):
    """There is no connection; str() is the reason, with what to do about it.

    kind: what makes two reasons one trouble. A broker that does not like our certificate says so, and closes; whether
    its word is read before the connection breaks is chance.
    """

    def __init__(self, reason: str, kind: str | None = None) -> None:
        super().__init__(reason)
        self.kind = kind or reason


def addresses(settings: Mqtt) -> list[Address]:
    """Return the brokers in order of preference."""
    return [Address(settings.host, settings.port), *_fallbacks(settings)]


def _fallbacks(settings: Mqtt) -> list[Address]:
    return [Address(host, port or settings.port) for host, port in settings.fallback_hosts]


def open_session(
    settings: Mqtt,
    address: Address,
    client_id: str,
    will: Will | None,
    environ: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Session:
    """Connect and wait for the broker's word, MQTT 5 first; raises RefusedError with a sentence for people.

    A broker that does not know MQTT 5 says so, or closes the connection without a word: then it is asked with 3.1.1.
    """
    for is_mqtt5 in (True, False):
        session = _attempt(settings, address, client_id, will, environ, is_mqtt5=is_mqtt5, clock=clock)
        if session.accepted and session.limits.maximum_qos >= 1:
            return session
        session.close()
        if session.accepted:
            raise RefusedError("the broker knows no QoS 1: without acknowledgements no step is safe")
        if session.refusal not in (None, _UNSUPPORTED_PROTOCOL):
            raise RefusedError(
                _REFUSALS.get(session.refusal, f"the broker refuses the connection (reason code {session.refusal})")
            )
    raise RefusedError(_closed_at_once(settings.tls), "closed")


def _attempt(
    settings: Mqtt,
    address: Address,
    client_id: str,
    will: Will | None,
    environ: Mapping[str, str],
    *,
    is_mqtt5: bool,
    clock: Callable[[], float],
) -> Session:
    """Send CONNECT with one version of the protocol and wait for the answer, or for the end."""
    try:
        client = _new_client(settings, client_id, will, environ, is_mqtt5=is_mqtt5)
    except (OSError, ValueError) as error:  # ValueError: ssl and paho about a file, a host or a name
        raise refused(error, settings.tls) from error
    session = Session(client, is_mqtt5=is_mqtt5, keepalive_s=settings.keepalive_s, clock=clock)
    try:
        session.connect(address.host, address.port)
    except (OSError, ValueError) as error:
        session.close()
        raise refused(error, settings.tls) from error
    deadline_s = time.monotonic() + CONNACK_TIMEOUT_S
    while not session.accepted and not session.ended:
        if time.monotonic() >= deadline_s:
            session.close()
            raise RefusedError(f"it accepts connections but has not answered for {CONNACK_TIMEOUT_S:.0f} s")
        session.wait(deadline_s - time.monotonic())
        session.turn()
    if not session.accepted and (alert := re.search(r"\[SSL: (\w+)\]", session.paho_said)):
        session.close()  # with TLS 1.3 the broker judges our certificate after the handshake
        raise _tls_failure(alert[1], settings.tls)
    return session


def _new_client(
    settings: Mqtt, client_id: str, will: Will | None, environ: Mapping[str, str], *, is_mqtt5: bool
) -> Any:
    options: dict[str, Any] = {"protocol": paho.MQTTv5 if is_mqtt5 else paho.MQTTv311, "reconnect_on_failure": False}
    if not is_mqtt5:
        options["clean_session"] = True
    if hasattr(paho, "CallbackAPIVersion"):  # paho 2
        options["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
    client = paho.Client(client_id=client_id, **options)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    if settings.username is not None:
        client.username_pw_set(settings.username, read_password(settings, environ))
    if settings.tls.ca_file is not None:
        client.tls_set_context(tls_context(settings.tls))
    return client


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


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Trust the configured CA alone, check the host name, show our certificate; files are read anew each time."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:  # it names no file, and may be an SSLError
        raise ValueError(f"mqtt.tls.ca_file {tls.ca_file}: {getattr(error, 'reason', error.strerror)}") from error
    if tls.cert_file is not None:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
        except (OSError, ValueError) as error:
            raise ValueError(f"mqtt.tls.cert_file {tls.cert_file}, key_file {tls.key_file}: {_cause(error)}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key asks for a password: nobody is there to type it, so store it without one")


def _cause(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


def _closed_at_once(tls: Tls) -> str:
    if tls.ca_file is None:
        return "it closed the connection at once: is this an MQTT broker, and does it want TLS (mqtt.tls.ca_file)?"
    if tls.cert_file is None:
        return "it closed the connection at once: does it want a client certificate (mqtt.tls.cert_file)?"
    return "it closed the connection at once: does it accept our certificate (mqtt.tls.cert_file), and speak MQTT?"


def refused(error: OSError | ValueError, tls: Tls) -> RefusedError:
    """Say in one line what failed, and where to look."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError(f"its certificate is not accepted ({error.verify_message}): {_remedy(error.verify_code)}")
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError) and tls.ca_file is not None:
        return RefusedError(_closed_at_once(tls), "closed")
    if isinstance(error, ssl.SSLError):
        return _tls_failure(str(error.reason or error), tls)
    if isinstance(error, TimeoutError) and tls.ca_file is not None and "handshake" in str(error):
        return RefusedError("the TLS handshake is not answered: check that mqtt.port is the broker's port for TLS")
    if isinstance(error, OSError):
        file = f"{error.filename}: " if error.filename else ""
        return RefusedError(f"{file}{error.strerror or error}")
    return RefusedError(str(error))


def _remedy(verify_code: int) -> str:
    if verify_code == _CERTIFICATE_EXPIRED:
        return "renew the broker's certificate, and check this device's clock"
    if verify_code in (_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH):
        return "check mqtt.host against the names in the broker's certificate"
    return "check mqtt.tls.ca_file and mqtt.host"


def _tls_failure(reason: str, tls: Tls) -> RefusedError:
    if "ALERT" not in reason or not ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason or "HANDSHAKE" in reason):
        return RefusedError(f"TLS fails ({reason}): check mqtt.port and mqtt.tls.ca_file")
    if tls.cert_file is None:
        return RefusedError(f"it wants a client certificate (mqtt.tls.cert_file; {reason})", "closed")
    return RefusedError(
        f"it wants another client certificate than ours ({reason}): check mqtt.tls.cert_file and key_file", "closed"
    )
