"""What of the SD image can be checked without making it: settings, scripts, the choice of the initramfs's modules."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

HERE = ROOT / "systemd" / "image"
SCRIPTS = ("root", "build", "qemu", "binfmt", "init", *(f"files/usr/lib/footfall-image/{name}" for name in
           ("expand", "identity", "settings")))  # fmt: skip
TREE = """/dts-v1/;
/ { compatible = "raspberrypi,4-model-b", "brcm,bcm2711";
    card-slot { compatible = "brcm,bcm2711-emmc2"; };
    switch { compatible = "regulator-gpio"; };
    camera { compatible = "brcm,bcm2835-unicam"; };
};
"""
ALIASES = """alias of:N*T*Cbrcm,bcm2711-emmc2 sdhci_iproc
alias of:N*T*Cbrcm,bcm2711-emmc2C* sdhci_iproc
alias of:N*T*Cregulator-gpio gpio_regulator
alias of:N*T*Cbrcm,bcm2835-unicam unicam
alias of:N*T*Cbrcm,other other
"""
DEPENDENCIES = """kernel/drivers/mmc/host/sdhci-iproc.ko.xz: kernel/drivers/mmc/host/sdhci-pltfm.ko.xz @
kernel/drivers/mmc/host/sdhci-pltfm.ko.xz: kernel/drivers/mmc/host/sdhci.ko.xz
kernel/drivers/mmc/host/sdhci.ko.xz:
kernel/drivers/mmc/host/other.ko.xz:
kernel/drivers/regulator/gpio-regulator.ko.xz:
kernel/drivers/media/unicam.ko.xz:
""".replace("@", "kernel/drivers/mmc/host/sdhci.ko.xz")


@pytest.fixture(scope="module")
def initrd() -> ModuleType:
    """Load the program that makes the initramfs."""
    spec = importlib.util.spec_from_file_location("initrd", HERE / "initrd.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """Give a small kernel's lists of modules."""
    (tmp_path / "modules.dep").write_text(DEPENDENCIES, encoding="ascii")
    (tmp_path / "modules.alias").write_text(ALIASES, encoding="ascii")
    return tmp_path


@pytest.mark.skipif(shutil.which("dtc") is None, reason="no dtc here: apt install device-tree-compiler")
def test_the_initramfs_has_what_the_card_slot_hangs_on_and_no_more(
    initrd: ModuleType, modules: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "board.dtb"
    subprocess.run(["dtc", "-q", "-o", tree], input=TREE.encode(), check=True)
    names = initrd.compatibles([tree])
    assert {"raspberrypi,4-model-b", "brcm,bcm2711", "regulator-gpio"} <= names
    assert initrd.storage_modules(modules, names) == ["gpio_regulator", "sdhci_iproc"]


def test_each_module_is_loaded_after_what_it_needs(initrd: ModuleType, modules: Path) -> None:
    order = initrd.load_order(modules, ["sdhci-iproc", "gpio_regulator", "built_in"])
    names = [path.rpartition("/")[2] for path in order]
    assert names == ["sdhci.ko.xz", "sdhci-pltfm.ko.xz", "sdhci-iproc.ko.xz", "gpio-regulator.ko.xz"]


def test_the_shipped_settings_are_valid_as_they_are_and_with_every_offer_taken(tmp_path: Path) -> None:
    shipped = (HERE / "boot" / "footfall.yaml").read_text(encoding="utf-8")
    taken = shipped.replace("  # tls:", "  tls:").replace("  #   ca_file", "    ca_file")
    taken = taken.replace("# device:", "device:").replace("#   id:", "  id:")
    assert taken.count("#") < shipped.count("#")
    # As Windows' editor leaves it, too: a byte order mark, and CR LF.
    windows = "\ufeff" + taken.replace("\n", "\r\n")
    for content in (shipped, taken, windows):
        (tmp_path / "footfall.yaml").write_bytes(content.encode())
        command = [sys.executable, "-m", "edge", "check-config", str(tmp_path / "footfall.yaml")]
        checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_shell(name: str) -> None:
    subprocess.run(["sh", "-n", HERE / name], check=True)


def test_the_wifi_file_as_shipped_switches_nothing_on() -> None:
    lines = (HERE / "boot" / "wpa_supplicant.conf").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") for line in lines)
    assert any(line.startswith("#network=") for line in lines)
