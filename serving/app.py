"""The two HTTP applications of a replica: the stream port's and the admin port's."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from chorus.wire.settings import SettingsError, from_query
from serving.access import SUBPROTOCOL, Access, subprotocols
from serving.connection import Connection, Session
from serving.errors import StreamError, shortened
from serving.gpu import Gpu
from serving.metrics import ConnectionMetrics, metrics_endpoint
from serving.service import Service
from serving.state import Refusal, ReplicaState
from serving.websocket import ABORT

log = logging.getLogger(__name__)

NOT_FOUND = Refusal(404, "bad_message", "no such path")


@dataclass(frozen=True)
class Admitted:
    """A request that may become a stream."""

    settings: msgspec.Struct
    key: str | None
    """Name of its API key; None where none is needed."""


class Streams:
    """Admits streams of one service and keeps account of those that run."""

    def __init__(self, service: Service, state: ReplicaState) -> None:
        self.service = service
        self.state = state
        self.metrics = ConnectionMetrics(service.name, service.registry)
        self.access = Access(service.settings.api_keys_file, service.settings.origins)
        self.sessions: dict[str, Session] = {}

    def examine(self, request: HTTPConnection) -> Admitted | Refusal:
        """What is known of a request that may become a stream, or why it may not."""
        guest = self.access.examine(request)
        if isinstance(guest, Refusal):
            return guest  # before anything else: how busy we are is nothing for a stranger
        refusal = self.state.refusal() or self.service.overload()
        if refusal is not None:
            return refusal
        try:
            query = QueryParams(request.scope["query_string"])
            settings = from_query(self.service.default_settings(), query.multi_items())
            self.service.check_settings(settings)
        except SettingsError as error:
            return Refusal(400, "bad_config", str(error))
        except StreamError as error:
            return Refusal(400, error.code, str(error))
        return Admitted(settings, guest.key)

    async def serve(self, websocket: WebSocket) -> None:
        """Refuse the client by HTTP, or accept it and serve it to its end."""
        if self.state.status != "ok":
            # Connected just before the port closed. Without an answer nginx asks the next replica, as it does once the
            # port is closed; a 503 it would pass on.
            websocket.scope["extensions"][ABORT]()
            return
        admitted = self.examine(websocket)
        if isinstance(admitted, Refusal):
            self.metrics.refused.labels(str(admitted.status)).inc()
            await deny(websocket, admitted)
            return
        # No await between the check and the slot: two clients can't take the last one.
        self.state.acquire()
        try:
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in subprotocols(websocket) else None)
            self.metrics.count_accepted(admitted.key)
            connection = Connection(
                websocket,
                outbox_bytes=self.service.settings.outbox_bytes,
                idle_timeout_s=self.service.settings.idle_timeout_s,
                metrics=self.metrics,
                key=admitted.key,
            )
            session = self.service.open(connection, admitted.settings)
            self.sessions[connection.id] = session
            try:
                await connection.run(session)
            finally:
                del self.sessions[connection.id]
        except WebSocketDisconnect:
            pass  # it left during the handshake
        finally:
            self.state.release()

    async def probe(self, request: Request) -> Response:
        """The stream's URL without `Upgrade`: the refusal a socket would have got, or 426."""
        admitted = self.examine(request)
        if isinstance(admitted, Refusal):
            return refusal_response(admitted)
        upgrade = Refusal(426, "bad_message", "this is a WebSocket endpoint: connect with Upgrade: websocket")
        response = refusal_response(upgrade)
        response.headers["Upgrade"] = "websocket"
        return response


def refusal_response(refusal: Refusal) -> JSONResponse:
    """A refusal as the protocol words it."""
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    error = {"code": refusal.code, "message": shortened(refusal.message)}
    return JSONResponse({"error": error}, refusal.status, headers)


async def deny(websocket: WebSocket, refusal: Refusal) -> None:
    """Answer a WebSocket handshake with an HTTP status and a JSON body."""
    try:
        await websocket.send_denial_response(refusal_response(refusal))
    except WebSocketDisconnect:
        pass  # it did not wait for the answer


def health_endpoint(service: Service, state: ReplicaState, gpu: Gpu | None) -> Any:
    """The handler of `GET /health`: 200 while the replica can serve, else 503, with the same JSON."""

    def health(_request: Request) -> Response:
        body = {
            "status": state.status,
            "service": service.name,
            "instance": state.instance,
            **service.describe(),
            "uptime_s": round(state.uptime_s, 1),
            "active_connections": state.active_connections,
            "max_connections": state.max_connections,
            "queue_depth": service.queue_depth(),
            "gpu": gpu.read() if gpu else None,
        }
        return JSONResponse(body, 200 if state.status == "ok" else 503)

    return health


async def _not_found(_request: Request, _error: Exception) -> Response:
    return refusal_response(NOT_FOUND)


async def _wrong_method(request: Request, _error: Exception) -> Response:
    return refusal_response(Refusal(405, "bad_message", f"{request.method} is not for this path"))


async def _no_such_stream(websocket: WebSocket) -> None:
    await deny(websocket, NOT_FOUND)


def create_apps(service: Service, state: ReplicaState, gpu: Gpu | None = None) -> tuple[Starlette, Starlette, Streams]:
    """The stream application, the admin application, and the streams that the first one serves.

    Both answer `/health` and `/metrics`; the admin port does so also while the stream port is closed.
    """
    streams = Streams(service, state)
    handlers: Any = {404: _not_found, 405: _wrong_method}
    common = [
        Route("/health", health_endpoint(service, state, gpu)),
        Route("/metrics", metrics_endpoint(service.registry)),
    ]
    stream_routes = [
        WebSocketRoute(service.path, streams.serve),
        Route(service.path, streams.probe),
        WebSocketRoute("/{path:path}", _no_such_stream),
        *common,
    ]
    stream_app = Starlette(routes=stream_routes, exception_handlers=handlers)
    admin_routes = [*common, WebSocketRoute("/{path:path}", _no_such_stream)]
    admin_app = Starlette(routes=admin_routes, exception_handlers=handlers)
    for app in (stream_app, admin_app):
        app.router.redirect_slashes = False  # a redirect would go to whatever host the client names
    return stream_app, admin_app, streams
