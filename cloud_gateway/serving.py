"""`longstop-gateway serve`: the gateway under uvicorn, from the bound socket to the last goodbye.

1. The socket is bound before anything else starts, so a taken port costs nothing.
2. One line says where it is once it answers, and `<data>/address` says it to the admin commands.
3. SIGTERM or Ctrl-C: no new requests, the open ones end, the broker ends, files are flushed, 0.
   A second one does not wait for open requests.
"""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import uvicorn

from cloud_gateway.app import Gateway, create_app
from cloud_gateway.errors import BadIdentity, PortTaken
from cloud_gateway.settings import Settings, TlsSettings
from cloud_gateway.shapes import ADDRESS, Serving

_BACKLOG = 2048
_GRACE_S = 5
_KEEP_ALIVE_S = 75


async def serve(settings: Settings, say: Callable[[Serving], None]) -> None:
    """Serve until told to end. Raises `StartError`s and `StorageUnavailable`."""
    secured = _secured(settings.tls)
    listening = _bind(settings.host, settings.port)
    with contextlib.closing(listening):
        app = create_app(settings)
        gateway: Gateway = app.state.gateway
        scheme = "http" if secured is None else "https"
        gateway.http_address = _address(scheme, settings.host, listening.getsockname()[1])
        server = _Server(app, gateway, settings.tls)
        async with _told_to_end(server), gateway.running():
            if server.should_exit:
                return
            serving = _serving(gateway)
            # Whoever is told the address may come before uvicorn does: the kernel lets them wait.
            listening.listen(_BACKLOG)
            with _announced(settings.data / ADDRESS, serving):
                say(serving)
                await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn, with our own signals, and streams that end when it is told to."""

    def __init__(self, app: object, gateway: Gateway, tls: TlsSettings) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]  # an ASGI application, whatever its class
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
            # Longer than devices pause between heartbeats, so that one connection does.
            timeout_keep_alive=_KEEP_ALIVE_S,
            ssl_certfile=tls.certificate or None,
            ssl_keyfile=tls.key or None,
        )
        super().__init__(config)
        self._gateway = gateway

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to `_told_to_end`: uvicorn would raise them again at the end, and exit 1."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._gateway.watch.close()
        await super().shutdown(sockets)


@contextlib.asynccontextmanager
async def _told_to_end(server: _Server) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _announced(path: Path, serving: Serving) -> Iterator[None]:
    path.write_bytes(msgspec.json.encode(serving) + b"\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _serving(gateway: Gateway) -> Serving:
    return Serving(
        gateway=gateway.http_address,
        page=gateway.http_address + "/",
        mqtt=gateway.broker.address,
        broker=gateway.broker.kind,
        data=str(gateway.settings.data),
        certificate=gateway.settings.tls.certificate,
    )


def _secured(tls: TlsSettings) -> ssl.SSLContext | None:
    """The files are tried before anything starts. Raises `BadIdentity`."""
    if not (tls.certificate or tls.key):
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        made.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ValueError) as error:
        raise BadIdentity(
            f"--tls-cert {tls.certificate!r} and --tls-key {tls.key!r} are no identity ({error});"
            " give both, in PEM, the key unencrypted"
        ) from error
    return made


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.set_inheritable(False)
    except OSError as error:
        listening.close()
        raise PortTaken(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with "
            "--port, or 0 for any free one"
        ) from error
    return listening


def _address(scheme: str, host: str, port: int) -> str:
    """How others reach a server bound to `host`."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
