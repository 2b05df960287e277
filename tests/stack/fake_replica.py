"""A replica without a model, for nginx to talk to: run in a container by `test_nginx_behaviour`, standard library only.

Port 8001 is the stream port: an upgrade is answered with 101 and held, and what comes
is sent back; other requests are answered as a service would. Port 9001 is
the admin port. Port 7000 takes orders: `/set?stream=MODE&health=MODE`, answered with the number of streams held.

stream: `ok`; `refuse` (the service's own 503); `closed` (the port does not listen). health: `ok`, `loading`, `closed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import urllib.parse

modes = {"stream": "ok", "health": "ok"}
servers: dict[str, asyncio.Server] = {}
held = 0


def answer(status: int, body: object, *headers: str) -> bytes:
    """One whole HTTP answer with a JSON body."""
    data = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """Target and headers (names in lower case)."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    return lines[0].split(" ")[1], {name.lower(): value for name, value in headers.items()}


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The stream port."""
    global held
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
        target, headers = await read_request(reader)
        if modes["stream"] == "refuse":
            error = {"error": {"code": "overloaded", "message": "the replica's own words"}}
            writer.write(answer(503, error, "Retry-After: 7"))
        elif headers.get("upgrade") == "websocket":
            held += 1
            writer.write(f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n{HOST}".encode())
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            finally:
                held -= 1
        elif target.startswith("/echo"):
            writer.write(answer(200, {"target": target, "headers": headers, "host": HOST}))
        else:
            writer.write(answer(404, {"error": {"code": "bad_message", "message": "the replica's 404"}}))
        await writer.drain()


async def admin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The admin port."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
        target, _ = await read_request(reader)
        status = 200 if modes["health"] == "ok" else 503
        writer.write(answer(status, {"status": modes["health"], "instance": HOST, "target": target}))
        await writer.drain()


async def orders(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The port of the test itself."""
    with contextlib.closing(writer):
        target, _ = await read_request(reader)
        modes.update(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))
        await listen("stream", stream, 8001)
        await listen("health", admin, 9001)
        writer.write(answer(200, {"held": held, "host": HOST}))
        await writer.drain()


async def listen(kind: str, serve: object, port: int) -> None:
    """Open or close a port as its mode says; connections that are open stay so."""
    if modes[kind] == "closed" and kind in servers:
        servers.pop(kind).close()
    elif modes[kind] != "closed" and kind not in servers:
        servers[kind] = await asyncio.start_server(serve, "0.0.0.0", port, backlog=512)  # type: ignore[arg-type]


async def main() -> None:
    """Serve until killed."""
    await listen("stream", stream, 8001)
    await listen("health", admin, 9001)
    async with await asyncio.start_server(orders, "0.0.0.0", 7000) as server:
        print("ready", flush=True)
        await server.serve_forever()


HOST = socket.gethostname()

if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
