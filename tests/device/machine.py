"""A Debian machine booted from a root of its own by systemd-nspawn: real systemd, no network, no hardware.

Three flags carry weight. Without `--capability=all --system-call-filter=bpf` systemd inside cannot load BPF programs,
and DeviceAllow= is silently not enforced; with `--private-network` nothing reaches or disturbs this machine. And each
machine gets a control group of its own: in the same one two of them would end each other's services.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from emulator import children
from tests.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")
ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
POWER_OFF = signal.SIGRTMIN + 4
BOOT_S, COMMAND_S = 120.0, 300.0
INTO_GROUP = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
SCRATCH = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  memory, not a place for secrets


def control_group() -> Path:
    """Return the folder of this process's own control group (version 2, also where version 1 is beside it)."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text(encoding="ascii").splitlines()]
    place = next(fields[4] for fields in mounts if fields[fields.index("-") + 1] == "cgroup2")
    groups = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    own = next(line.removeprefix("0::") for line in groups if line.startswith("0::"))
    return Path(place) / own.lstrip("/")


class Machine:
    """One booted machine; a context manager that unpacks, and takes everything away again.

    tar: what scripts/debian-root made. After fetch() and boot() commands can be run in it.
    """

    def __init__(self, tar: Path) -> None:
        self.name = tar.stem
        self._tar = tar
        self._directory = Path(tempfile.mkdtemp(prefix=f"footfall-{self.name}.", dir=SCRATCH))
        self.root = self._directory / "root"
        self._group = control_group() / f"{self._directory.name}.machine"
        self._nspawn: subprocess.Popen[str] | None = None
        self.leader = 0

    def __enter__(self) -> Self:
        self.root.mkdir()
        subprocess.run(["tar", "-xf", self._tar, "-C", self.root, "--exclude=./dev/*"], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.power_off()
        finally:
            shutil.rmtree(self._directory)

    def fetch(self, *packages: Path | str) -> None:
        """Put .debs into /root, and what they and named packages need into apt's cache: booted, it has no network."""
        shutil.copyfile("/etc/resolv.conf", self.root / "etc" / "resolv.conf")
        wanted = []
        for package in packages:
            if isinstance(package, Path):
                shutil.copyfile(package, self.root / "root" / package.name)
            wanted.append(f"/root/{package.name}" if isinstance(package, Path) else package)
        fetch = ["apt-get", "install", "--yes", "--download-only", "-qq", *wanted]
        if self._chroot(*fetch).returncode != 0:  # lists from long ago name files that have gone since
            self._chroot("apt-get", "update", "-qq")
            done = self._chroot(*fetch)
            assert done.returncode == 0, done.stderr

    def _chroot(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["chroot", self.root, *ENVIRONMENT, *command], capture_output=True, text=True, check=False
        )

    def boot(self) -> float:
        """Start systemd and wait until it is up; return the seconds that took."""
        began_s = time.monotonic()
        command = ["systemd-nspawn", "--quiet", "--directory", str(self.root)]
        command += [f"--machine=footfall-{os.getpid()}-{self.name}"]
        command += ["--boot", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off"]
        command += ["--private-network", "--capability=all", "--system-call-filter=bpf"]
        self._group.mkdir(exist_ok=True)
        command = ["sh", "-c", INTO_GROUP, str(self._group), "env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", *command]
        with (self._directory / "console.log").open("w", encoding="utf-8") as console:
            self._nspawn = children.start(command, stdout=console, stderr=console)
        wait_until(self._is_up, timeout_s=BOOT_S, what=f"{self.name} has booted")
        return time.monotonic() - began_s

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, (self._directory / "console.log").read_text(encoding="utf-8")
        self.leader = self._find_leader()
        if not self.leader:
            return False
        state = self.run("systemctl", "is-system-running", check=False).strip()
        return state in ("running", "degraded")

    def _find_leader(self) -> int:
        """Return the process id, as seen from here, of the systemd inside; 0 while there is none."""
        assert self._nspawn is not None
        tasks = Path(f"/proc/{self._nspawn.pid}/task").glob("*/children")
        for child in " ".join(task.read_text(encoding="ascii") for task in tasks).split():
            try:
                if Path(f"/proc/{child}/comm").read_text(encoding="ascii").strip() == "systemd":
                    return int(child)
            except OSError:
                continue
        return 0

    def power_off(self) -> None:
        """Shut down cleanly, insist after a while."""
        if self._nspawn is None:
            return
        if self.leader:
            os.kill(self.leader, POWER_OFF)
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait(10)
        self._nspawn, self.leader = None, 0
        with suppress(OSError):  # where it had to be killed its last processes may still be about to go
            for folder, _, _ in os.walk(self._group, topdown=False):
                Path(folder).rmdir()

    def within(self, *command: str) -> list[str]:
        """Return the command line that runs a program of the machine's in it."""
        return ["nsenter", "--target", str(self.leader), *NAMESPACES, *ENVIRONMENT, *command]

    def beside(self, *command: str) -> list[str]:
        """Return the command line that runs a program of ours in the machine's network."""
        return ["nsenter", "--target", str(self.leader), "--net", *command]

    def run(self, *command: str, check: bool = True, timeout_s: float = COMMAND_S) -> str:
        """Run a command inside and return what it wrote."""
        done = subprocess.run(
            self.within(*command), capture_output=True, text=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = f"{shlex.join(command)} in {self.name}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, said
        return done.stdout

    def succeeds(self, *command: str) -> bool:
        """Tell whether a command inside ends with 0."""
        return subprocess.run(self.within(*command), capture_output=True, check=False).returncode == 0

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file into the machine."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Wait for something to happen inside; a failure shows the service's journal."""
        with self.explained():
            wait_until(condition, timeout_s=timeout_s, what=what)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Let a failure show the service's journal."""
        try:
            yield
        except AssertionError as error:
            journal = self.run("journalctl", "--no-pager", "-n", "40", "-u", "footfall", check=False)
            raise AssertionError(f"{self.name}: {error}\n{journal}") from None


class Service:
    """footfall.service in a machine, as systemctl sees it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def show(self, name: str) -> str:
        """Return one property."""
        return self.machine.run("systemctl", "show", "footfall", "--property", name, "--value").strip()

    @property
    def pid(self) -> int:
        """The daemon's process id, as the machine sees it; 0 where there is none."""
        return int(self.show("MainPID"))

    @property
    def is_active(self) -> bool:
        """Whether systemd has heard READY=1 from a process that still runs."""
        return self.show("ActiveState") == "active"

    def control(self, verb: str) -> None:
        """Start, stop or restart it."""
        with self.machine.explained():
            self.machine.run("systemctl", verb, "footfall")

    def wait_active(self, *, other_than: int = 0) -> int:
        """Wait until it runs, as another process than the given one; return its process id."""
        self.machine.until(lambda: self.is_active and self.pid not in (0, other_than), "footfall is active", 90.0)
        return self.pid

    def journal(self) -> str:
        """Return everything the service and systemd have said about it."""
        return self.machine.run("journalctl", "--no-pager", "--output=cat", "--unit=footfall")
