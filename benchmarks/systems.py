"""What is measured beside each other: Chorus' running stack, and the servers of its rivals."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.metrics import Metrics, read_metrics
from benchmarks.ports import free_ports
from benchmarks.rival_servers import DoesNotRun, Server, install, version
from chorus.commands.common import explain


class Refused(Exception):
    """The system told that it takes no more."""


@dataclass(frozen=True)
class Usage:
    """What a system has used so far."""

    cpu_seconds: float
    rss_mib: float
    counters: Metrics = field(default_factory=dict)
    """What it tells of itself."""


class Stack:
    """One service of the running stack, with one replica."""

    name = "chorus"
    settings: str
    service: str
    """Its metrics begin with that."""

    def __init__(self, url: str, metrics_url: str) -> None:
        self._url, self._metrics_url = url, metrics_url
        self.broken: list[str] = []

    def prepare(self) -> None:
        """The stack runs already, or `make up` is to be said. Raises `DoesNotRun`."""
        try:
            self.usage()
        except OSError as error:
            raise DoesNotRun(explain(error, self._metrics_url)) from None

    def start(self, at_once: int) -> None:
        """As before: it has been warm since it started."""
        self.broken = []

    def usage(self) -> Usage:
        """From the replica's metrics. Raises `OSError`."""
        found = read_metrics(self._metrics_url)
        return Usage(
            found["process_cpu_seconds_total"],
            found["process_resident_memory_bytes"] / 2**20,
            {name: value for name, value in found.items() if self._counts(name)},
        )

    def stop(self) -> None:
        """The stack goes on."""

    def _counts(self, metric: str) -> bool:
        """Whether it belongs into a result: of this service, not a bucket, nor the time since when it counts."""
        name = metric.partition(",")[0]
        return name.startswith(f"{self.service}_") and not name.endswith(("_created", "_bucket"))


class Rival:
    """A server from PyPI, in an environment of its own."""

    name: str
    package: str | None = None
    """On PyPI, where it is called otherwise."""
    settings: str

    def __init__(self) -> None:
        self._server: Server | None = None
        self._port = 0
        self.broken: list[str] = []

    def prepare(self) -> None:
        """Install it. Raises `DoesNotRun`."""
        install(self.name, f"  {self.name}")
        self.settings = f"{version(self.name, self.package or self.name)}, {type(self).settings}"

    def start(self, at_once: int) -> None:
        """A new server for each level: none has to work off what the level before left. Raises `DoesNotRun`."""
        (self._port,) = free_ports(1)
        self._server = Server(self.name, self._port, self._arguments(at_once))

    def usage(self) -> Usage:
        """Of its processes."""
        assert self._server is not None
        return Usage(*self._server.usage())

    def stop(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _arguments(self, at_once: int) -> list[str]:
        """After the interpreter."""
        raise NotImplementedError
