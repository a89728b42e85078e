"""A private PostgreSQL on a free loopback port, run as the user that Debian's package made for it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from emulator.ports import free_port

VERSIONS = Path("/usr/lib/postgresql")
USER = "postgres"


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL installed, or None."""
    found = sorted(VERSIONS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """Start, stop, kill; the data lie in a folder that is removed by stop()."""

    def __init__(self) -> None:
        folder = programs()
        assert folder is not None, "no PostgreSQL here: apt install postgresql"
        self._bin = folder
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="footfall-pg-"))
        owner = pwd.getpwnam(USER)
        os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self.dsn = f"host=127.0.0.1 port={self.port} user={USER} dbname=postgres"
        self._run("initdb", "-D", str(self._folder / "data"), "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_wal_size=4GB"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-l", log, "-w", "-t", "120", "-o", options, "start")

    def kill(self) -> None:
        """Let it crash."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")

    def stop(self) -> None:
        """End it and remove its data."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *words: str, check: bool = True) -> None:
        command = [str(self._bin / program), *words]
        if os.getuid() == 0:
            command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", *command]
        subprocess.run(
            command,
            check=check,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=180,
            cwd="/",
        )
