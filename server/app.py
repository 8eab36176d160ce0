"""The one port: the page, health, metrics, WebRTC by HTTP, and the WebSocket."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST

from .asyncapi import document
from .auth import Grant, Refused, check_origin, grant
from .house import House
from .ice import ice_links
from .offer import MAX_OFFER_BYTES
from .protocol import SUBPROTOCOL, Hello
from .ws import Connection

SDP = "application/sdp"
BODY_TIMEOUT = 5.0  # seconds for a client to send its offer
REFUSAL = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["code", "message", "retry_after"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "retry_after": {"type": "number", "description": "seconds; 0 if trying again does not help"},
                    "place": {"type": "integer", "description": "in the queue for a session, from 1"},
                    "waiting": {"type": "string", "description": "to be given in the next query, to keep the place"},
                },
            }
        }
    },
}
OFFER: dict[str, Any] = {
    "requestBody": {"required": True, "content": {SDP: {"schema": {"type": "string", "maxLength": MAX_OFFER_BYTES}}}},
    "parameters": [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in {
            "session": {"type": "string", "maxLength": 64},
            "role": {"type": "string", "enum": ["player", "viewer"], "default": "player"},
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
            "prompt": {"type": "string", "maxLength": 2000},
            "resume": {"type": "string", "maxLength": 64},
            "waiting": {"type": "string", "maxLength": 64},
        }.items()
    ],
}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: REFUSAL for status in statuses}


routes = APIRouter()


def create_app(house: House) -> FastAPI:
    """The ASGI application; it brings the house to life and drains it in its lifespan."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with house.live():
            yield

    app = FastAPI(title="Rewander", description="Playable world models with a memory.", lifespan=lifespan)
    app.state.house = house
    app.add_exception_handler(Refused, _refuse)
    app.include_router(routes)
    if house.config.auth.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=house.config.auth.origins,
            allow_methods=["POST", "DELETE", "OPTIONS"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["link", "location", "retry-after"],
        )
    if house.config.page is not None:
        app.mount("/", StaticFiles(directory=house.config.page, html=True))
    return app


@routes.get("/asyncapi.json", include_in_schema=False)  # like /openapi.json, which describes the rest
async def asyncapi() -> JSONResponse:
    return JSONResponse(document())


@routes.get("/healthz", summary="The process answers")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@routes.get("/readyz", summary="New players may come", responses={503: {"description": "not now"}})
async def readyz(request: Request) -> Response:
    is_ready = _house(request).lobby.is_ready
    return JSONResponse({"status": "ready" if is_ready else "leaving"}, 200 if is_ready else 503)


@routes.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **_refusals(401, 429, 503)},
)
async def metrics(request: Request) -> Response:
    house = _house(request)
    with house.door.admit(_address(request)):
        _granted(request)
    return Response(house.render_metrics(), media_type=CONTENT_TYPE_LATEST)


@routes.post(
    "/whep",
    status_code=201,
    summary="Connect by WebRTC: an SDP offer for its answer",
    response_class=Response,
    responses={201: {"content": {SDP: {}}}, **_refusals(400, 401, 403, 404, 408, 409, 413, 415, 429, 503)},
    openapi_extra=OFFER,
)
async def connect(request: Request) -> Response:
    house = _house(request)
    with ExitStack() as stay:
        stay.enter_context(house.door.admit(_address(request)))  # first, so that tokens cannot be guessed at speed
        _check_origin(request)
        allowed = _granted(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != SDP:
            raise Refused("offer.type", f"expected {SDP}", status=415)
        hello, offer = _hello(request.query_params), await _body(request)
        name, answer = await house.peers.open(offer, hello, allowed, stay=stay)
    place = f"{request.scope.get('root_path', '')}/whep/{name}"
    response = Response(answer, 201, media_type=SDP, headers={"Location": place})
    _link_ice_servers(response, house)
    return response


@routes.options(
    "/whep",
    summary="The ICE servers, in Link headers, for clients that want them before their offer",
    response_class=Response,
    responses=_refusals(401, 403, 429, 503),
)
async def describe(request: Request) -> Response:
    house = _house(request)
    with house.door.admit(_address(request)):
        _check_origin(request)
        _granted(request)
    response = Response(headers={"Accept-Post": SDP})
    _link_ice_servers(response, house)
    return response


@routes.delete(
    "/whep/{name}", summary="End a WebRTC connection", response_class=Response, responses=_refusals(401, 404)
)
async def disconnect(request: Request, name: str) -> Response:
    _granted(request)
    _house(request).peers.close(name)
    return Response()


@routes.websocket("/ws")
async def play(socket: WebSocket) -> None:
    house = _house(socket)
    try:
        _check_origin(socket)
        if SUBPROTOCOL not in socket.scope["subprotocols"]:
            raise Refused("ws.subprotocol", f"expected the subprotocol {SUBPROTOCOL}", status=400)
        with house.door.admit(_address(socket)):
            await socket.accept(SUBPROTOCOL)
            connection = Connection(socket, config=house.config.ws, clock=house.clock, metrics=house.metrics)
            await connection.run(house.lobby, house.config.auth)
    except Refused as refused:  # before it was accepted: `run` tells its own
        await socket.send_denial_response(await _refuse(socket, refused))


async def _refuse(connection: HTTPConnection, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    _house(connection).metrics.refusals.labels(refused.code).inc()
    said = {"code": refused.code, "message": str(refused), "retry_after": refused.retry_after}
    if refused.place:
        said |= {"place": refused.place, "waiting": refused.waiting}
    headers = {"Retry-After": str(math.ceil(refused.retry_after))} if refused.retry_after else {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(said, refused.status, headers)


def _link_ice_servers(response: Response, house: House) -> None:
    for link in ice_links(house.config.rtc.ice, now=time.time()):
        response.headers.append("Link", link)


def _house(connection: HTTPConnection) -> House:
    house = connection.app.state.house
    assert isinstance(house, House)
    return house


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


def _check_origin(connection: HTTPConnection) -> None:
    headers = connection.headers
    check_origin(headers.get("origin"), host=headers.get("host", ""), config=_house(connection).config.auth)


def _granted(request: Request) -> Grant:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return grant(token.strip() if scheme.lower() == "bearer" else "", _house(request).config.auth)


def _hello(query: Mapping[str, str]) -> Hello:
    """The query of an offer as a hello; what is in it beside that is ignored."""
    try:
        return msgspec.convert({**query, "t": "hello", "token": ""}, Hello, strict=False)
    except msgspec.ValidationError as error:
        raise Refused("message.malformed", f"expected the fields of hello: {error}", status=400) from error


async def _body(request: Request) -> bytes:
    """The request's body; raises Refused when it is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_OFFER_BYTES:
                    raise Refused("offer.size", f"expected at most {MAX_OFFER_BYTES} bytes, got more", status=413)
    except TimeoutError as error:
        raise Refused("offer.slow", f"expected an offer within {BODY_TIMEOUT} s", status=408) from error
    return bytes(body)
