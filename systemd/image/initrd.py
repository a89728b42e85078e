"""Make the image's initramfs on the build machine: busybox, one script, and the modules that reach the SD card.

No foreign program runs, so it takes seconds where mkinitramfs under emulation takes minutes. Which modules: ext4, and
each that some node of the boards' device trees asks for in a class that storage hangs on. A list made by hand forgets
the regulators of the Raspberry Pi 4's card slot, which QEMU's board does without.
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ALWAYS = ("ext4", "crc32c_generic", "mmc_block")
CLASSES = (
    "mmc",
    "clk",
    "gpio",
    "regulator",
    "mailbox",
    "dma",
    "pinctrl",
    "firmware",
    "soc",
    "reset",
    "pmdomain",
    "mfd",
)
COMPATIBLE = re.compile(r"compatible = ([^;]*);")


def main() -> int:
    """Write the initramfs; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", type=Path, required=True, help=".../lib/modules/RELEASE, with modules.dep")
    parser.add_argument("--busybox", type=Path, required=True, help="a static busybox for the device")
    parser.add_argument("--init", type=Path, required=True, help="the script that runs as process 1")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("trees", type=Path, nargs="+", help="the boards' .dtb files")
    options = parser.parse_args()
    wanted = [*ALWAYS, *storage_modules(options.modules, compatibles(options.trees))]
    order = load_order(options.modules, wanted)
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        fill(tree, options.modules, order, busybox=options.busybox, init=options.init)
        options.output.write_bytes(gzip.compress(archive(tree), 9, mtime=0))
    print(f"{options.output}: {len(order)} modules, {options.output.stat().st_size / 1e6:.1f} MB")
    return 0


def compatibles(trees: list[Path]) -> set[str]:
    """All `compatible` strings of the device trees."""
    found: set[str] = set()
    for tree in trees:
        source = subprocess.run(
            ["dtc", "-q", "-I", "dtb", "-O", "dts", tree], check=True, capture_output=True, text=True
        )
        for values in COMPATIBLE.findall(source.stdout):
            # Some releases of dtc write a list as "one", "two", some as "one\0two".
            found.update(name for text in re.findall(r'"([^"]*)"', values) for name in text.split("\\0"))
    return found


def storage_modules(modules: Path, names: set[str]) -> list[str]:
    """Names of the modules that drive one of `names` and lie in a class that storage may hang on, sorted."""
    paths = {_name(path): path for path in _dependencies(modules)}
    found = set()
    for line in (modules / "modules.alias").read_text(encoding="ascii").splitlines():
        word, _, rest = line.partition(" ")
        alias, _, module = rest.rpartition(" ")
        if word != "alias" or not alias.startswith("of:"):
            continue
        path = paths.get(module.replace("-", "_"), "")
        if any(path.startswith(f"kernel/drivers/{each}/") for each in CLASSES) and any(
            fnmatch.fnmatchcase(f"of:N*T*C{name}", alias) or alias == f"of:N*T*C{name}C*" for name in names
        ):
            found.add(module)
    return sorted(found)


def load_order(modules: Path, wanted: list[str]) -> list[str]:
    """Paths below `modules` of the wanted modules and all that they need, each after what it needs."""
    dependencies = _dependencies(modules)
    paths = {_name(path): path for path in dependencies}
    order: dict[str, None] = {}
    for name in wanted:
        if path := paths.get(name.replace("-", "_")):  # what is built into the kernel has none
            order.update(dict.fromkeys([*reversed(dependencies[path]), path]))
    return list(order)


def fill(tree: Path, modules: Path, order: list[str], *, busybox: Path, init: Path) -> None:
    """Lay out the initramfs: /init, /bin/busybox, /modules/* and their order."""
    for folder in ("bin", "proc", "sys", "dev", "root", "modules"):
        (tree / folder).mkdir()
    shutil.copy(busybox, tree / "bin/busybox")
    shutil.copy(init, tree / "init")
    (tree / "bin/busybox").chmod(0o755)
    (tree / "init").chmod(0o755)
    names = []
    for path in order:
        content = (modules / path).read_bytes()
        if path.endswith(".xz"):
            content = lzma.decompress(content)
        names.append(f"{_name(path)}.ko")
        (tree / "modules" / names[-1]).write_bytes(content)
    (tree / "modules/order").write_text("".join(f"{name}\n" for name in names), encoding="ascii")


def archive(tree: Path) -> bytes:
    """Return the tree as a cpio archive, which the kernel unpacks."""
    names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
    command = ["cpio", "--create", "--format=newc", "--quiet", "--reproducible", "--owner=0:0"]
    return subprocess.run(command, cwd=tree, check=True, capture_output=True, input=names.encode()).stdout


def _dependencies(modules: Path) -> dict[str, list[str]]:
    lines = (modules / "modules.dep").read_text(encoding="ascii").splitlines()
    return {path: needs.split() for path, _, needs in (line.partition(":") for line in lines)}


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


if __name__ == "__main__":
    sys.exit(main())
