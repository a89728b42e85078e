"""scripts/apt-repository, and what the administrator of a fleet starts from; devices: tests/ansible."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from edge.config import load
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPT = ROOT / "scripts" / "apt-repository"
KEY = "packages@example.org"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give a GnuPG of its own with one key."""
    missing = [name for name in ("gpg", "gpgv", "apt-ftparchive", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install gnupg gpgv apt-utils dpkg")
    home = tmp_path_factory.mktemp("g")
    home.chmod(0o700)
    environment = {**os.environ, "GNUPGHOME": str(home)}
    command = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", KEY, "ed25519", "sign", "1d"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    yield environment
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=environment, check=False)


def deb(directory: Path, version: str, architecture: str = "arm64", text: str = "") -> Path:
    """Make a package with nothing but a name."""
    tree = directory / f"tree-{version}-{architecture}-{len(text)}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = (
        f"Package: footfall\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: nobody <a@example.org>\n"
    )
    (tree / "DEBIAN" / "control").write_text(f"{control}Description: nothing {text}\n")
    made = tree / f"footfall_{version}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, made], check=True, capture_output=True)
    return made


def publish(
    environment: dict[str, str], repository: Path, *debs: Path, key: str = KEY
) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), str(repository), key, *map(str, debs)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def versions(repository: Path, suite: str, architecture: str) -> list[str]:
    index = (repository / "dists" / suite / "main" / f"binary-{architecture}" / "Packages").read_text()
    return sorted(line.split()[1] for line in index.splitlines() if line.startswith("Version:"))


def test_each_suite_and_architecture_finds_its_own_versions_under_a_good_signature(
    environment: dict[str, str], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    debs = [deb(tmp_path, "1.0+deb12"), deb(tmp_path, "1.0+deb12", "armhf"), deb(tmp_path, "1.0+deb13")]
    assert publish(environment, repository, *debs).returncode == 0
    done = publish(environment, repository, deb(tmp_path, "1.1+deb12"), debs[0])
    assert done.returncode == 0, done.stderr
    assert versions(repository, "bookworm", "arm64") == ["1.0+deb12", "1.1+deb12"]
    assert versions(repository, "bookworm", "armhf") == ["1.0+deb12"]
    assert versions(repository, "trixie", "arm64") == ["1.0+deb13"]
    assert versions(repository, "trixie", "amd64") == []
    assert not [*repository.glob("dists.*")]
    ring = tmp_path / "ring.gpg"
    subprocess.run(["gpg", "--dearmor", "--output", ring, repository / "footfall.asc"], check=True, env=environment)
    signed = repository / "dists" / "bookworm" / "InRelease"
    assert subprocess.run(["gpgv", "--keyring", ring, signed], capture_output=True, check=False).returncode == 0
    assert "Origin: Footfall\n" in signed.read_text(), "what unattended upgrades look for"
    signed.write_text(signed.read_text().replace("Origin: Footfall", "Origin: Footfell"))
    assert subprocess.run(["gpgv", "--keyring", ring, signed], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize(
    ("version", "key", "said"),
    [
        ("1.0+deb12", "nobody@example.org", "GnuPG has no secret key 'nobody@example.org'; make one: gpg --quick"),
        ("1.0", KEY, "has version 1.0; allowed: …+deb12 (bookworm), …+deb13 (trixie)"),
        ("1.0+deb13", KEY, "is published with other contents; devices trust the name: raise the version"),
    ],
)
def test_what_must_not_be_published_is_refused_and_nothing_changes(
    environment: dict[str, str], tmp_path: Path, version: str, key: str, said: str
) -> None:
    repository = tmp_path / "repository"
    assert publish(environment, repository, deb(tmp_path, "1.0+deb13")).returncode == 0
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    done = publish(environment, repository, deb(tmp_path, "2.0+deb12"), deb(tmp_path, version, text="other"), key=key)
    assert done.returncode == 2
    assert said in done.stderr
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before


def test_a_file_that_is_no_package_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    done = publish(environment, tmp_path / "repository", tmp_path / "missing.deb")
    assert done.returncode == 2
    assert f"{tmp_path}/missing.deb is no Debian package, or is missing: run make deb" in done.stderr


class _Loader(yaml.SafeLoader):
    """YAML with Ansible's vaults."""


_Loader.add_constructor("!vault", lambda _loader, node: str(node.value))


def test_the_example_s_settings_are_valid_on_every_device(tmp_path: Path) -> None:
    with (ROOT / "systemd" / "ansible" / "inventory.example.yml").open(encoding="utf-8") as file:
        footfall = yaml.load(file, _Loader)["footfall"]  # noqa: S506  a SafeLoader with one more tag
    common: dict[str, Any] = footfall["vars"]["footfall_common"]
    assert common["mqtt"]["tls"].pop("ca_file") == "/etc/footfall/ca.crt", "which the playbook writes"
    for name, host in footfall["hosts"].items():
        settings = yaml.safe_dump(common | host.get("footfall_device", {})).replace("{{ inventory_hostname }}", name)
        (tmp_path / "config.yaml").write_text(settings, encoding="utf-8")
        config = load(tmp_path / "config.yaml", {})
        assert (config.device.id, config.mqtt.username, config.mqtt.host) == (name, name, "broker.example.org")
