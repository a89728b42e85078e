"""Three RabbitMQ nodes with the MQTT plug-in on loopback, without systemd, in a folder of their own."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from emulator.ports import free_port
from fleet.light_mqtt import dial

BIN = Path("/usr/lib/rabbitmq/bin")
NODES = 3
PATIENCE_S = 240.0
# Neither busy waiting nor more schedulers than a small shared machine has cores for; distribution on loopback only.
ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
CONFIG = """\
cluster_formation.peer_discovery_backend = classic_config
{peers}
cluster_partition_handling = pause_minority
listeners.tcp.1 = 127.0.0.1:{amqp}
mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}
mqtt.allow_anonymous = false
mqtt.tcp_listen_options.backlog = 4096
mqtt.tcp_listen_options.nodelay = true
mqtt.tcp_listen_options.sndbuf = 8192
mqtt.tcp_listen_options.recbuf = 8192
default_user = footfall
default_pass = {password}
num_acceptors.tcp = 10
vm_memory_high_watermark.absolute = 3GB
disk_free_limit.absolute = 200MB
log.file.level = warning
"""


@dataclass
class Node:
    """One node. Ports on 127.0.0.1."""

    number: int
    amqp: int = field(default_factory=free_port)
    mqtt: int = field(default_factory=free_port)
    distribution: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Erlang's name for it."""
        return f"footfall{self.number}@localhost"


class Cluster:
    """Start it, kill nodes, bring them back, stop it. Everything it writes lies below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = [Node(number) for number in range(1, NODES + 1)]
        self.username, self.password = "footfall", secrets.token_hex(8)
        self._epmd_port = free_port()
        self._home = folder / "home"
        self._home.mkdir(parents=True)
        cookie = self._home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(10), encoding="ascii")
        cookie.chmod(0o400)
        (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n", encoding="ascii")

    def start(self) -> None:
        """Start all nodes and wait until each is in the cluster and lets MQTT clients in.

        One after the other: of nodes that start at once, one in some runs never joins the MQTT plug-in's own cluster
        (its client-id tracker), and refuses every client as "unavailable".
        """
        peers = "\n".join(f"cluster_formation.classic_config.nodes.{node.number} = {node.name}" for node in self.nodes)
        for node in self.nodes:
            own = self.folder / f"n{node.number}"
            own.mkdir()
            config = CONFIG.format(peers=peers, amqp=node.amqp, mqtt=node.mqtt, password=self.password)
            (own / "rabbitmq.conf").write_text(config, encoding="ascii")
            self.launch(node)
            self.wait_for(node)

    def launch(self, node: Node) -> None:
        """Start one node, without waiting."""
        with (self.folder / f"n{node.number}" / "output").open("ab") as output:
            node.process = subprocess.Popen(
                [BIN / "rabbitmq-server"],
                env=self._environment(node),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for(self, node: Node) -> None:
        """Wait until a node is up and a member of the cluster."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self.control(node, "await_startup", "--timeout", "20").returncode:
            assert time.monotonic() < deadline_s, f"{node.name} does not start: {self.log(node)}"
            assert node.process is not None
            assert node.process.poll() is None, f"{node.name} has ended: {self.log(node)}"
            time.sleep(0.5)
        while not self.lets_in(node):
            assert time.monotonic() < deadline_s, f"{node.name} lets no MQTT client in: {self.log(node)}"
            time.sleep(0.5)

    def lets_in(self, node: Node) -> bool:
        """Say whether an MQTT client gets a CONNACK from it."""

        async def connect() -> None:
            port, name, password = node.mqtt, self.username, self.password
            link = await dial("127.0.0.1", port, "knock", lambda _: None, username=name, password=password)
            link.close()

        try:
            asyncio.run(connect())
        except OSError:
            return False
        return True

    def control(self, node: Node, *words: str) -> subprocess.CompletedProcess[str]:
        """Run rabbitmqctl against a node."""
        command = [str(BIN / "rabbitmqctl"), "-q", "-n", node.name, *words]
        return subprocess.run(
            command, env=self._environment(node), capture_output=True, text=True, check=False, timeout=90
        )

    def pid(self, node: Node) -> int:
        """Return the process id of the node's virtual machine."""
        return int((self.folder / f"n{node.number}" / "pid").read_text(encoding="ascii"))

    def sessions(self) -> list[int]:
        """Return the process sessions of the nodes that run."""
        return [node.process.pid for node in self.nodes if node.process is not None]

    def leader(self, queue: str) -> Node:
        """Return the node that leads a quorum queue."""
        told = self.control(self.nodes[0], "list_queues", "name", "leader", "--no-table-headers").stdout
        name = next(line.split("\t")[1] for line in told.splitlines() if line.startswith(f"{queue}\t"))
        return next(node for node in self.nodes if node.name == name.strip())

    def kill(self, node: Node) -> None:
        """Take a node away without a word."""
        assert node.process is not None
        os.killpg(node.process.pid, signal.SIGKILL)
        node.process.wait(30)
        node.process = None

    def stop(self) -> None:
        """End what was started: the nodes, and the port mapper of their own."""
        for node in self.nodes:
            if node.process is not None:
                self.kill(node)
        epmd = shutil.which("epmd") or "epmd"
        environment = os.environ | {"ERL_EPMD_PORT": str(self._epmd_port)}
        subprocess.run([epmd, "-kill"], env=environment, capture_output=True, check=False, timeout=30)

    def log(self, node: Node) -> str:
        """Return the end of what a node has printed."""
        return (self.folder / f"n{node.number}" / "output").read_text(encoding="utf-8", errors="replace")[-1500:]

    def _environment(self, node: Node) -> dict[str, str]:
        own = self.folder / f"n{node.number}"
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._home),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": node.name,
            "RABBITMQ_NODE_PORT": str(node.amqp),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(node.distribution),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(own / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }
