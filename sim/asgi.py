"""The way from a simulated link into the gateway: its own HTTP route, called without a socket."""

from fastapi import FastAPI
from starlette.types import Message

from sim.link import Deliver
from sync.wire import codec, v1


def deliver_to(app: FastAPI, token: str) -> Deliver:
    """Delivers a message to the gateway's own HTTP route, without a socket between."""
    headers = [(b"authorization", b"Bearer " + token.encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/up",
        "raw_path": b"/v1/up",
        "query_string": b"",
        "root_path": "",
        "server": ("gateway", 80),
        "client": ("device", 1),
        "headers": headers,
    }

    async def deliver(message: bytes) -> bytes:
        status, body = 0, b""

        async def receive() -> Message:
            return {"type": "http.request", "body": message, "more_body": False}

        async def send(event: Message) -> None:
            nonlocal status, body
            if event["type"] == "http.response.start":
                status = event["status"]
            else:
                body += event.get("body", b"")

        await app(dict(scope), receive, send)
        if status != 200:
            return codec.encode(v1.Refused(f"http_{status}", body.decode(), permanent=False))
        return body

    return deliver
