"""Everything `make test-device` does, on each Debian release at the same time: most of it is waiting.

Every line says whose it is ("bookworm | …"); the whole output of each is also in build/device/SUITE.log.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conftest import ROOT
from tests.device.conftest import SUITES, architecture, deb_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

DEBS = ROOT / "build" / "deb"
LOGS = ROOT / "build" / "device"
_terminal = threading.Lock()


@dataclass(frozen=True)
class Run:
    """One release: what it needs, then its tests.

    previous: version and commit of the package that an upgrade starts from. arguments: for pytest; None: no tests.
    """

    suite: str
    previous: tuple[str, str] | None
    arguments: Sequence[str] | None

    @property
    def log(self) -> str:
        """The whole output's file, as seen from the checkout."""
        return f"build/device/{self.suite}.log"

    def __call__(self) -> tuple[bool, float]:
        """Return whether all went well, and the seconds it took."""
        began_s = time.monotonic()
        with (ROOT / self.log).open("w", encoding="utf-8") as log:
            well = all(self._follow(command, log) for command in self._commands(log))
        return well, time.monotonic() - began_s

    def _commands(self, log: TextIO) -> list[list[str]]:
        build = ["env", f"PIP_PYTHON={sys.executable}", "systemd/packaging/build-deb", self.suite, architecture()]
        commands = []
        if not [*DEBS.glob(deb_pattern(self.suite))]:
            commands.append(build)
        if self.previous is not None and has_commit(self.previous[1]):
            # gzip: this one is installed once, and xz takes ten times as long.
            quick = ["env", "DPKG_DEB_COMPRESSOR_TYPE=gzip", "OUTPUT=build/deb/previous"]
            commands.append([*quick, *build[1:], *self.previous])
        elif self.previous is not None:
            self._say(f"no commit {self.previous[1]} in this checkout: the upgrade test is skipped", log)
        commands.append([*as_root(), "scripts/debian-root", self.suite])
        if self.arguments is None:
            return commands
        tests = [*as_root(), "env", f"FOOTFALL_DEVICE_SUITE={self.suite}", sys.executable, "-B", "-m", "pytest"]
        tests += ["-p", "no:cacheprovider", "--no-header", "-v", "-m", "device", "tests/device"]
        return [*commands, [*tests, *self.arguments]]

    def _follow(self, command: list[str], log: TextIO) -> bool:
        """Run a command to its end, pass its lines on as they come, tell whether it succeeded."""
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                self._say(line.rstrip("\n"), log)
        return process.returncode == 0

    def _say(self, line: str, log: TextIO) -> None:
        log.write(f"{line}\n")
        log.flush()
        with _terminal:
            print(f"{self.suite:8} | {line}".rstrip(), flush=True)


def as_root() -> list[str]:
    """Return what stands before a command that only root may run."""
    return [] if os.getuid() == 0 else ["sudo"]


def has_commit(commit: str) -> bool:
    """Tell whether this checkout has a commit: a shallow one has not."""
    command = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Run the releases side by side; 1 if any of them is not green."""
    parser = argparse.ArgumentParser(prog="python -m tests.device", description=__doc__)
    parser.add_argument("--suite", choices=SUITES, action="append", help="only this release")
    parser.add_argument("--previous", nargs=2, metavar=("VERSION", "COMMIT"))
    parser.add_argument("--only-prepare", action="store_true", help="packages and roots, no tests")
    options, arguments = parser.parse_known_args()
    if as_root():
        subprocess.run(["sudo", "--validate"], check=True)  # asks for a password once, before anything starts
    LOGS.mkdir(parents=True, exist_ok=True)
    previous = options.previous and tuple(options.previous)
    runs = [Run(suite, previous, None if options.only_prepare else arguments) for suite in options.suite or SUITES]
    # Ctrl-C reaches the children as well; leaving the pool waits until they have taken their machines down.
    with ThreadPoolExecutor() as pool:
        results = [*pool.map(Run.__call__, runs)]
    if options.only_prepare:
        return 0 if all(well for well, _ in results) else 1
    for run, (well, seconds) in zip(runs, results, strict=True):
        said = "green" if well else f"FAILED (its whole output: {run.log})"
        print(f"test-device: {run.suite} {said}, {seconds // 60:.0f} min {seconds % 60:.0f} s")
    return 0 if all(well for well, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
