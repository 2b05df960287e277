"""Clients that end badly: bare sockets, whose end no library tidies up."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import time
from dataclasses import dataclass, field

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.uri import parse_uri

from chaos.stack import shell
from chorus.connect import handshake_error, stream_url
from chorus.errors import ChorusError, ConnectionLost, Refused
from chorus.wire import asr as asr_wire
from chorus.wire import tts as tts_wire
from loadtest.sockets import prepare

PATH = {"asr": asr_wire.PATH, "tts": tts_wire.PATH}
PORTS = itertools.cycle(range(10_000, 30_000))
"""Below those that the system gives out by itself, so that a rule for a range of them hits nobody else."""
OPEN_WITHIN_S = 60.0
AGAIN_S = 0.5
AUDIO = prepare(bytes(3200))
"""A tenth of a second of silence."""
READ_BYTES = 64 * 1024


@dataclass(eq=False)
class Guest:
    """One open stream, of which nothing is read any more."""

    sock: socket.socket
    protocol: ClientProtocol

    async def say(self, frame: bytes) -> None:
        """Write a prepared frame. Raises `OSError`."""
        await asyncio.get_running_loop().sock_sendall(self.sock, frame)

    async def ask(self, text: str) -> None:
        """Ask a synthesis stream for a text. Raises `OSError`."""
        self.protocol.send_text(text.encode())
        await self.say(b"".join(self.protocol.data_to_send()))

    def reset(self) -> None:
        """End with RST: a linger of no seconds drops what is on its way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def enter(service: str, url: str, *, port: int = 0) -> Guest:
    """Open a stream from a port of this machine, 0 for any. Raises `ChorusError`, `OSError`."""
    loop = asyncio.get_running_loop()
    uri = parse_uri(stream_url(url, PATH[service], {}))
    protocol = ClientProtocol(uri)
    sock = socket.socket()
    try:
        sock.setblocking(False)
        # Little room: a client that does not read fills it at once, and the server's own bounds come next.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
        if port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("0.0.0.0", port))
        async with asyncio.timeout(OPEN_WITHIN_S):
            await loop.sock_connect(sock, (uri.host, uri.port))
            protocol.send_request(protocol.connect())
            await loop.sock_sendall(sock, b"".join(protocol.data_to_send()))
            while not protocol.events_received():
                data = await loop.sock_recv(sock, READ_BYTES)
                if not data:
                    raise ConnectionLost(None, "closed before it was opened")
                protocol.receive_data(data)
        if isinstance(protocol.handshake_exc, InvalidHandshake):
            raise handshake_error(protocol.handshake_exc)
    except BaseException:
        sock.close()
        raise
    return Guest(sock, protocol)


@dataclass
class Wave:
    """Some streams of one service that end together."""

    guests: list[Guest]
    ports: tuple[int, int] | None = None
    """First and last of the ports that they come from, where they can be blocked."""
    refused: list[str] = field(default_factory=list)
    blocked: bool = False

    async def block(self) -> None:
        """Let no packet of theirs pass, in the network namespace that this program runs in."""
        self.blocked = True
        await self._rules("-I")

    async def put_away(self) -> None:
        """Close the sockets, then let packets pass again: whatever they still want to say goes nowhere before that."""
        for guest in self.guests:
            guest.sock.close()
        if self.blocked:
            self.blocked = False
            await self._rules("-D")

    async def _rules(self, do: str) -> None:
        assert self.ports is not None
        first, last = self.ports
        await shell(*f"iptables --wait {do} OUTPUT -p tcp --sport {first}:{last} -j DROP".split())
        await shell(*f"iptables --wait {do} INPUT -p tcp --dport {first}:{last} -j DROP".split())


async def enter_within(patience_s: float, service: str, url: str, *, port: int = 0) -> Guest:
    """Open a stream, and ask again for so long while it is refused by 503. Raises `ChorusError`, `OSError`."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return await enter(service, url, port=port)
        except Refused as refused:
            if refused.status != 503 or time.monotonic() > until:
                raise
        await asyncio.sleep(AGAIN_S)


async def open_wave(service: str, url: str, count: int, *, blockable: bool = True, patience_s: float = 0.0) -> Wave:
    """So many streams at once; those that were refused, for so long, are told in it."""
    ports = list(itertools.islice(PORTS, count)) if blockable else []
    if ports and ports[-1] < ports[0]:  # a range does not go around
        ports = list(itertools.islice(PORTS, count))
    found = await asyncio.gather(
        *(enter_within(patience_s, service, url, port=ports[number] if ports else 0) for number in range(count)),
        return_exceptions=True,
    )
    wave = Wave([], (ports[0], ports[-1]) if ports else None)
    for each in found:
        if isinstance(each, Guest):
            wave.guests.append(each)
        elif isinstance(each, ChorusError | OSError):
            wave.refused.append(str(each) or type(each).__name__)
        elif isinstance(each, BaseException):
            raise each
    return wave
