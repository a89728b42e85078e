"""The broker: name, TCP, TLS and its certificate, login, and one real message to this device's own topics.

The test message goes to `BASE/reply/doctor`, QoS 1, not retained: replies are part of the contract, so an ACL that fits
the device allows it; no consumer waits for that verb, and nothing stays on the broker. The client id is our own (with
`-doctor` behind it) and there is no last will, so a running daemon keeps its session and stays `online`.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge.doctor.finding import Context
    from edge.mqtt_connect import Address
    from edge.mqtt_session import Session
    from edge.settings import Mqtt

AREA = "broker"
LIMIT_S = 60.0
TCP_TIMEOUT_S = 5.0
PUBACK_TIMEOUT_S = 10.0
EXPIRES_SOON_S = 14 * 86400.0
NOT_AUTHORIZED = 135
NO_TLS_ADVICE = "check mqtt.port: brokers speak TLS on 8883 as a rule; without TLS, set mqtt.tls.ca_file to null"
CREDENTIAL = Path("/etc/credstore/footfall.mqtt-password")
"""Where systemd finds the password that it hands to the service (systemd/footfall.service)."""
LOOPBACK = ("localhost", "127.", "::1")


def check(context: Context) -> Iterator[Finding]:
    """Find what stands between this device and each of its brokers."""
    from edge.mqtt_connect import addresses  # noqa: PLC0415  paho is large, and not every check needs it

    settings = context.config.mqtt
    yield from _password(settings, context)
    brokers = addresses(settings)
    failures = []
    for address in brokers:
        findings = list(_broker(address, context))
        failures.append(any(one.level == "fail" for one in findings))
        yield from findings
    if any(failures) and not all(failures):
        yield ok(AREA, f"{failures.count(False)} of {len(brokers)} configured brokers can be used")


def _broker(address: Address, context: Context) -> Iterator[Finding]:
    reached = _reach(address)
    if reached is not None:
        yield reached
        return
    if context.config.mqtt.tls.ca_file is not None:
        secure = _certificate(address, context.config.mqtt)
        yield secure
        if secure.level == "fail":
            return
    yield from _session(address, context)


def _password(settings: Mqtt, context: Context) -> Iterator[Finding]:
    path = settings.password_file
    if path is not None:
        yield from _readable_by_others(path)
    if settings.username is not None and settings.tls.ca_file is None and not settings.host.startswith(LOOPBACK):
        yield warn(
            AREA,
            f"the password goes to {settings.host} in the clear",
            "use the broker's TLS port: set mqtt.port to 8883 and mqtt.tls.ca_file to its CA certificate",
        )
    if settings.username is not None and path is None and "CREDENTIALS_DIRECTORY" not in _environ(context):
        yield warn(
            AREA,
            f"mqtt.username is {settings.username!r} but there is no password here",
            f"put it into {CREDENTIAL}, which root alone can read (sudo footfall doctor), or set mqtt.password_file",
        )


def _environ(context: Context) -> Mapping[str, str]:
    """Return the environment as the service has it: systemd hands it the password from the credential store."""
    credential = context.root / CREDENTIAL.relative_to("/")
    if "CREDENTIALS_DIRECTORY" in context.environ or not os.access(credential, os.R_OK):
        return context.environ
    return {**context.environ, "CREDENTIALS_DIRECTORY": str(credential.parent)}


def _readable_by_others(path: Path) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield fail(AREA, f"mqtt.password_file {path}: {error.strerror}", "check the path and its permissions")
        return
    if mode & stat.S_IROTH:
        yield warn(AREA, f"every user may read mqtt.password_file {path}", f"run `chmod o-r {path}`")


def _reach(address: Address) -> Finding | None:
    """Return why no TCP connection comes about; None where it does."""
    try:
        socket.create_connection((address.host, address.port), TCP_TIMEOUT_S).close()
    except socket.gaierror as error:
        return fail(
            AREA,
            f"{address}: the name {address.host!r} is not known ({error.strerror})",
            f"check mqtt.host; run `getent hosts {address.host}`, and check the network and its name server",
        )
    except TimeoutError:
        return fail(
            AREA,
            f"{address}: no answer within {TCP_TIMEOUT_S:g} s",
            "check that the broker's machine is on, in this network, and that no firewall drops the port",
        )
    except ConnectionRefusedError:
        return fail(
            AREA,
            f"{address}: nobody listens there (connection refused)",
            "start the broker (`sudo systemctl start mosquitto`), check mqtt.port; "
            "Mosquitto 2 listens to other machines only with a `listener` line",
        )
    except OSError as error:
        return fail(AREA, f"{address}: {error.strerror or error}", "check the network: `ip route`, `ping`")
    return None


def _certificate(address: Address, settings: Mqtt) -> Finding:
    """Shake hands over TLS as the daemon will, and look at the certificate's last day."""
    # The daemon's own context and words: doctor must not judge by other rules.
    from edge.mqtt_connect import refused, tls_context  # noqa: PLC0415  see check()

    try:
        with (
            socket.create_connection((address.host, address.port), TCP_TIMEOUT_S) as plain,
            tls_context(settings.tls).wrap_socket(plain, server_hostname=address.host) as secure,
        ):
            end = (secure.getpeercert() or {}).get("notAfter")
    except (OSError, ValueError) as error:
        reason, advice = _split(str(refused(error, settings.tls)))
        if isinstance(error, (ConnectionError, TimeoutError, ssl.SSLEOFError)):
            reason, advice = f"no TLS there ({reason})", NO_TLS_ADVICE
        return fail(AREA, f"{address}: {reason}", advice)
    if not isinstance(end, str):
        return ok(AREA, f"{address}: TLS")
    left_s = ssl.cert_time_to_seconds(end) - time.time()
    text = f"{address}: TLS; the certificate is valid until {end}"
    if left_s < EXPIRES_SOON_S:
        return warn(AREA, f"{text}, {left_s / 86400:.1f} days from now", "renew the broker's certificate")
    return ok(AREA, text)


def _session(address: Address, context: Context) -> Iterator[Finding]:
    from edge.mqtt_connect import RefusedError, open_session  # noqa: PLC0415  see check()

    settings = context.config.mqtt
    client_id = f"footfall-{context.config.device.id}-doctor"
    try:
        session = open_session(settings, address, client_id, None, _environ(context))
    except RefusedError as refusal:
        reason, advice = _split(str(refusal))
        yield fail(AREA, f"{address}: {reason}", advice)
        return
    try:
        who = f"as {settings.username!r}" if settings.username else "without a user name"
        yield ok(AREA, f"{address}: connected {who}, MQTT {'5' if session.is_mqtt5 else '3.1.1'}")
        yield _publish(session, settings)
    finally:
        session.close()


def _split(reason: str) -> tuple[str, str]:
    """Take apart what went wrong and what to do: every refusal of edge.mqtt_connect is built `what: remedy`."""
    what, separator, remedy = reason.rpartition(": ")
    return (what, remedy) if separator else (reason, "look into the broker's log")


def _publish(session: Session, settings: Mqtt) -> Finding:
    topic = f"{settings.base_topic}/reply/doctor"
    began_s = time.monotonic()
    mid = session.publish(topic, _message(), retain=False)
    ack = None
    while mid is not None and not session.ended and ack is None:
        left_s = began_s + PUBACK_TIMEOUT_S - time.monotonic()
        if left_s <= 0:
            break
        session.wait(left_s)
        session.turn()
        ack = next((one for one in session.acks if one.mid == mid), None)
    if ack is None:
        return _unacknowledged(session, topic)
    if not ack.accepted:
        why = "the ACL denies it" if ack.reason == NOT_AUTHORIZED else f"reason code {ack.reason}"
        return fail(
            AREA,
            f"the broker refuses a test message on {topic} ({why})",
            f"let the user {settings.username or 'anonymous'!r} write to {settings.base_topic}/# in the broker's ACL",
        )
    took_ms = 1000.0 * (time.monotonic() - began_s)
    text = f"a test message on {topic} was acknowledged in {took_ms:.0f} ms"
    if session.is_mqtt5:
        return ok(AREA, text)
    return warn(
        AREA,
        f"{text}, but over MQTT 3.1.1 a broker acknowledges also what its ACL denies",
        f"make sure that a subscriber sees steps: `mosquitto_sub -v -t '{settings.base_topic}/#'`",
    )


def _unacknowledged(session: Session, topic: str) -> Finding:
    if session.ended:
        return fail(
            AREA,
            f"the broker ended the connection upon a test message on {topic} ({session.reason})",
            "look into the broker's log: some brokers do so where the ACL denies a topic",
        )
    return fail(
        AREA,
        f"a test message on {topic} was not acknowledged within {PUBACK_TIMEOUT_S:g} s",
        "the broker is overloaded or hangs: look into its log",
    )


def _message() -> bytes:
    return json.dumps({"transaction": "doctor", "status": "ok", "data": {}, "error": None}).encode()
