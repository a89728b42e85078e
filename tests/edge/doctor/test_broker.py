"""Everything that may stand between a device and its broker, each provoked on a real Mosquitto."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge import config
from edge.doctor import broker as doctor
from edge.doctor.finding import Context
from emulator.ports import free_port
from tests.broker import MOSQUITTO, Broker, Subscriber, wait_until
from tests.edge.device import MuteBroker
from tests.edge.doctor.clinic import visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.doctor.finding import Finding

pytestmark = pytest.mark.broker
DAY = 86400


@dataclasses.dataclass(frozen=True)
class Keys:
    """CAs and certificates for 127.0.0.1, made by openssl: good, expired, about to expire, of another host.

    With the extensions on which Python 3.13 insists.
    """

    folder: Path

    def file(self, name: str) -> Path:
        return self.folder / name

    def make_ca(self, name: str) -> None:
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                      "-addext", "keyUsage=critical,keyCertSign",
                      "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip

    def make(
        self, name: str, *, alt_name: str = "IP:127.0.0.1", begin_s: float = -DAY, end_s: float = 90 * DAY
    ) -> None:
        """Make NAME.pem, signed by `ca`; begin_s and end_s: from now."""
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        self.file("ca.cnf").write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index\nnew_certs_dir={self.folder}\nrand_serial=yes\n"
            f"default_md=sha256\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n"
            f"[x]\nsubjectAltName={alt_name}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
            encoding="ascii",
        )
        self.file("index").write_text("", encoding="ascii")
        begin, end = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + s)) for s in (begin_s, end_s))
        self._openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key",
                      "-startdate", begin, "-enddate", end, "-in", f"{name}.csr", "-out", f"{name}.pem")  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("keys"))
    made.make_ca("ca")
    made.make_ca("other")
    made.make("good")
    made.make("expired", begin_s=-3 * DAY, end_s=-DAY)
    made.make("soon", end_s=3 * DAY)
    made.make("elsewhere", alt_name="DNS:broker.example")
    return made


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Give a function that starts a Mosquitto with these lines of configuration."""
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here: apt install mosquitto")
    started: list[Broker] = []

    def start(*lines: str) -> Broker:
        directory = tmp_path / f"broker{len(started)}"
        directory.mkdir()
        started.append(Broker(directory, *lines))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def with_tls(keys: Keys, name: str) -> tuple[str, ...]:
    return "allow_anonymous true", f"certfile {keys.file(f'{name}.pem')}", f"keyfile {keys.file(f'{name}.key')}"


def examined(port: int, root: Path = Path("/nowhere"), **settings: str | None) -> list[Finding]:
    """Run the broker check alone; settings: further mqtt keys, `__` between levels."""
    given = {"HOST": "127.0.0.1", "PORT": str(port), **{key: value for key, value in settings.items() if value}}
    environ = {f"FOOTFALL__MQTT__{key}": value for key, value in given.items()} | {"FOOTFALL__DEVICE__ID": "t1"}
    return list(doctor.check(Context(config.load(None, environ), environ={}, root=root)))


def failure(findings: list[Finding]) -> Finding:
    (one,) = [one for one in findings if one.level == "fail"]
    assert one.advice, one
    return one


def test_a_broker_that_takes_us_is_ok(serve: Callable[..., Broker]) -> None:
    found = examined(serve("allow_anonymous true").port)
    assert [one.level for one in found] == ["ok", "ok"]
    assert "connected without a user name, MQTT 5" in found[0].text
    assert "test message on footfall/t1/reply/doctor was acknowledged" in found[1].text


def test_the_check_leaves_nothing_behind_and_disturbs_no_daemon(serve: Callable[..., Broker]) -> None:
    port = serve("allow_anonymous true").port
    early = Subscriber(port)
    examined(port)
    late = Subscriber(port)
    try:
        wait_until(lambda: early._messages, timeout_s=30.0, what="the doctor's test message")
        assert [(one.topic, one.retained) for one in early._messages] == [("footfall/t1/reply/doctor", False)]
        assert early.on("doctor")[0].json()["transaction"] == "doctor"
        assert late._messages == []
    finally:
        early.close()
        late.close()


def test_nobody_listens() -> None:
    one = failure(examined(free_port()))
    assert "nobody listens there (connection refused)" in one.text


def test_an_unknown_name() -> None:
    one = failure(examined(1883, HOST="no-such-host.invalid"))
    assert "the name 'no-such-host.invalid' is not known" in one.text
    assert "check mqtt.host" in one.advice


def test_something_that_is_no_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up)
        thread.start()
        one = failure(examined(server.getsockname()[1]))
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert "it closed the connection at once" in one.text


@pytest.fixture
def passwords(tmp_path: Path) -> tuple[str, ...]:
    """Return the lines of a broker that knows `walker` with `right`."""
    path = tmp_path / "passwd"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(path), "walker", "right"], check=True, capture_output=True)
    return "allow_anonymous false", f"password_file {path}"


def password(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / f"password-{text}"
    path.write_text(f"{text}\n", encoding="utf-8")
    path.chmod(mode)
    return str(path)


def test_the_right_password(serve: Callable[..., Broker], passwords: tuple[str, ...], tmp_path: Path) -> None:
    found = examined(serve(*passwords).port, USERNAME="walker", PASSWORD_FILE=password(tmp_path, "right"))
    assert [one.level for one in found] == ["ok", "ok"]
    assert "connected as 'walker'" in found[0].text


def test_the_service_s_password_is_found_where_systemd_finds_it(
    serve: Callable[..., Broker], passwords: tuple[str, ...], tmp_path: Path
) -> None:
    port = serve(*passwords).port
    missing = examined(port, root=tmp_path, USERNAME="walker")
    assert "/etc/credstore/footfall.mqtt-password" in missing[0].advice
    assert missing[-1].level == "fail"
    credential = tmp_path / "etc" / "credstore" / "footfall.mqtt-password"
    credential.parent.mkdir(parents=True)
    credential.write_text("right\n", encoding="utf-8")
    assert [one.level for one in examined(port, root=tmp_path, USERNAME="walker")] == ["ok", "ok"]


def test_a_wrong_password(serve: Callable[..., Broker], passwords: tuple[str, ...], tmp_path: Path) -> None:
    found = examined(serve(*passwords).port, USERNAME="walker", PASSWORD_FILE=password(tmp_path, "wrong"))
    one = failure(found)
    assert "mqtt.password_file" in one.advice
    assert "wrong" not in one.text.replace(str(tmp_path), "") + one.advice, "the password itself is never shown"


def test_no_user_where_one_is_wanted(serve: Callable[..., Broker], passwords: tuple[str, ...]) -> None:
    assert "mqtt.username" in failure(examined(serve(*passwords).port)).advice


def test_a_password_that_everybody_can_read(
    serve: Callable[..., Broker], passwords: tuple[str, ...], tmp_path: Path
) -> None:
    port = serve(*passwords).port
    found = examined(port, USERNAME="walker", PASSWORD_FILE=password(tmp_path, "right", 0o644))
    (one,) = [one for one in found if one.level == "warn"]
    assert "every user may read" in one.text
    assert one.advice.startswith("run `chmod o-r ")


def test_an_acl_that_denies_our_topics(serve: Callable[..., Broker], tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite elsewhere/#\n", encoding="ascii")
    one = failure(examined(serve("allow_anonymous true", f"acl_file {acl}").port))
    assert one.text == "the broker refuses a test message on footfall/t1/reply/doctor (the ACL denies it)"
    assert "write to footfall/t1/# in the broker's ACL" in one.advice


def test_an_acl_that_allows_exactly_the_device_is_enough(serve: Callable[..., Broker], tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic write footfall/t1/#\ntopic read footfall/t1/cmd/#\n", encoding="ascii")
    found = examined(serve("allow_anonymous true", f"acl_file {acl}").port)
    assert {one.level for one in found} == {"ok"}


def test_over_mqtt_3_an_acl_cannot_be_seen_and_that_is_said(serve: Callable[..., Broker], tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite elsewhere/#\n", encoding="ascii")
    with MuteBroker(refuse_mqtt5=True) as old:
        old.forward_to(serve("allow_anonymous true", f"acl_file {acl}").port)
        found = examined(old.port)
    assert "MQTT 3.1.1" in found[0].text
    assert found[1].level == "warn"
    assert "over MQTT 3.1.1 a broker acknowledges also what its ACL denies" in found[1].text


def test_good_tls(serve: Callable[..., Broker], keys: Keys) -> None:
    found = examined(serve(*with_tls(keys, "good")).port, TLS__CA_FILE=str(keys.file("ca.pem")))
    assert [one.level for one in found] == ["ok", "ok", "ok"]
    assert "the certificate is valid until" in found[0].text


def test_a_wrong_ca(serve: Callable[..., Broker], keys: Keys) -> None:
    found = examined(serve(*with_tls(keys, "good")).port, TLS__CA_FILE=str(keys.file("other.pem")))
    one = failure(found)
    assert "certificate is not accepted" in one.text
    assert "mqtt.tls.ca_file" in one.advice


def test_an_expired_certificate(serve: Callable[..., Broker], keys: Keys) -> None:
    one = failure(examined(serve(*with_tls(keys, "expired")).port, TLS__CA_FILE=str(keys.file("ca.pem"))))
    assert "certificate has expired" in one.text
    assert "renew the broker's certificate" in one.advice


def test_a_certificate_that_expires_in_days(serve: Callable[..., Broker], keys: Keys) -> None:
    found = examined(serve(*with_tls(keys, "soon")).port, TLS__CA_FILE=str(keys.file("ca.pem")))
    (one,) = [one for one in found if one.level == "warn"]
    assert "days from now" in one.text


def test_a_wrong_host_name(serve: Callable[..., Broker], keys: Keys) -> None:
    one = failure(examined(serve(*with_tls(keys, "elsewhere")).port, TLS__CA_FILE=str(keys.file("ca.pem"))))
    assert "certificate is not accepted" in one.text
    assert "check mqtt.host against the names in the broker's certificate" in one.advice


def test_tls_where_the_broker_has_none(serve: Callable[..., Broker], keys: Keys) -> None:
    one = failure(examined(serve("allow_anonymous true").port, TLS__CA_FILE=str(keys.file("ca.pem"))))
    assert "mqtt.port" in one.advice or "mqtt.tls" in one.advice, one


def test_no_tls_where_the_broker_wants_it(serve: Callable[..., Broker], keys: Keys) -> None:
    one = failure(examined(serve(*with_tls(keys, "good")).port))
    assert "does it want TLS" in one.text + one.advice


def test_a_ca_file_that_is_none(serve: Callable[..., Broker], keys: Keys, tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("not a certificate\n", encoding="ascii")
    assert "ca_file" in failure(examined(serve(*with_tls(keys, "good")).port, TLS__CA_FILE=str(empty))).text


def test_a_hung_broker_is_given_up_in_bounded_time(tmp_path: Path) -> None:
    """A socket that accepts and says nothing, as a broker under SIGSTOP."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = visit(tmp_path, sensor={"bus": str(tmp_path / "none")}, mqtt={"host": "127.0.0.1", "port": port})
    assert "has not answered for 10 s" in found.the("broker", "fail")["text"]


def test_openssl_and_python_agree_on_the_expired_one(keys: Keys) -> None:
    """The fixture really is what it claims to be."""
    subprocess.run(
        ["openssl", "verify", "-CAfile", keys.file("ca.pem"), keys.file("good.pem")], check=True, capture_output=True
    )
    assert subprocess.run(
        ["openssl", "verify", "-CAfile", keys.file("ca.pem"), keys.file("expired.pem")],
        check=False,
        capture_output=True,
    ).returncode
