"""The operator's side: admin commands over the gateway's own API, and the signing key.

The signing key is made, kept and used here, and its private half never enters the gateway's folder.
"""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from cloud_gateway.errors import BadKeyPlace, DataUnusable, GatewayRefused, GatewayUnreachable
from cloud_gateway.shapes import (
    ADDRESS,
    PUBLISHER,
    DesiredVersion,
    Devices,
    FeatureRow,
    FeatureRows,
    FeatureTables,
    Invitation,
    NewDevice,
    Problem,
    ReleaseFacts,
    Releases,
    Serving,
)
from models import release
from models.package import digest
from sync.trust import keys

T = TypeVar("T")
_PIECE = 64 << 10
Progress = Callable[[str, int, int], None]
"""Told what is sent, how much of it, and out of how much."""


class Admin:
    """A gateway, as its operator speaks to it. Every call raises `AdminError`s."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.BaseTransport | None = None,
        certificate: str = "",
    ) -> None:
        """`certificate`: a file with the gateway's own identity, believed beside the known ones."""
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60.0,
            transport=transport,
            # A proxy from the environment must not see the admin token.
            trust_env=False,
            verify=_believing(certificate),
        )
        self._url = url

    def add_device(self, name: str) -> Invitation:
        body = msgspec.json.encode(NewDevice(name))
        return self._ask("POST", "/v1/admin/devices", Invitation, body)

    def devices(self) -> Devices:
        return self._ask("GET", "/v1/admin/devices", Devices)

    def remove_device(self, name: str) -> None:
        self._send("DELETE", f"/v1/admin/devices/{name}")

    def releases(self) -> Releases:
        return self._ask("GET", "/v1/admin/releases", Releases)

    def desire(self, wanted: DesiredVersion) -> None:
        self._send("PUT", "/v1/admin/desired", msgspec.json.encode(wanted))

    def put_features(self, table: str, rows: tuple[FeatureRow, ...]) -> None:
        body = msgspec.json.encode(FeatureRows(rows))
        self._send("PUT", f"/v1/admin/features/{quote(table, safe='')}", body)

    def feature_tables(self) -> FeatureTables:
        return self._ask("GET", "/v1/admin/features", FeatureTables)

    def remove_features(self, table: str) -> None:
        self._send("DELETE", f"/v1/admin/features/{quote(table, safe='')}")

    def publish(self, folder: Path, key: Path, progress: Progress) -> ReleaseFacts:
        """Pack, sign and upload a package. Raises `ModelsError`s for the package, `TrustError`s."""
        private = keys.load_private(key)
        packed = release.prepare(folder)
        document = release.sign(packed.release, private)
        for name, archive in (("edge", packed.edge), ("cloud", packed.cloud)):
            self._upload(name, archive, progress)
        return self._ask("POST", "/v1/admin/releases", ReleaseFacts, document)

    def close(self) -> None:
        self._client.close()

    def _upload(self, name: str, archive: bytes, progress: Progress) -> None:
        def pieces() -> Iterator[bytes]:
            for at in range(0, len(archive), _PIECE):
                yield archive[at : at + _PIECE]
                progress(name, min(at + _PIECE, len(archive)), len(archive))

        self._send(
            "PUT",
            f"/v1/admin/blobs/{digest(archive)}",
            pieces(),
            {"Content-Length": str(len(archive))},
        )

    def _ask(self, method: str, path: str, shape: type[T], body: bytes = b"") -> T:
        answer = self._send(method, path, body)
        try:
            return msgspec.json.decode(answer, type=shape)
        except msgspec.DecodeError as error:
            raise GatewayUnreachable(
                f"{self._url} does not answer like a Longstop gateway of this version: {error}"
            ) from error

    def _send(
        self,
        method: str,
        path: str,
        body: "bytes | Iterator[bytes]" = b"",
        headers: "dict[str, str] | None" = None,
    ) -> bytes:
        try:
            answer = self._client.request(method, path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise GatewayUnreachable(
                f"no gateway answers at {self._url} ({error}); start it with "
                "`longstop-gateway serve`, or name another with --gateway"
            ) from error
        if answer.is_success:
            return answer.content
        try:
            told = msgspec.json.decode(answer.content, type=Problem)
        except msgspec.DecodeError as error:
            raise GatewayUnreachable(
                f"{self._url} answered {answer.status_code} and not as a Longstop gateway does"
            ) from error
        raise GatewayRefused(told.code, told.status, told.detail)


def _believing(certificate: str) -> ssl.SSLContext:
    made = ssl.create_default_context()
    if certificate:
        made.load_verify_locations(certificate)
        # The file lies beside the gateway's own data: itself is enough, whoever made it.
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return made


def open_admin(data: Path, url: str | None, token_file: Path | None) -> Admin:
    """The gateway that runs on a data folder, or the one named. Raises `GatewayUnreachable`."""
    certificate = ""
    if url is None:
        try:
            serving = msgspec.json.decode((data / ADDRESS).read_bytes(), type=Serving)
            url, certificate = serving.gateway, serving.certificate
        except FileNotFoundError as error:
            raise GatewayUnreachable(
                f"no gateway runs on {data}; start it with `longstop-gateway serve --data {data}`, "
                "name its folder with --data, or its address with --gateway"
            ) from error
        except msgspec.DecodeError as error:
            raise GatewayUnreachable(
                f"{data / ADDRESS} does not say where the gateway is"
            ) from error
    path = token_file or data / "admin.token"
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise GatewayUnreachable(
            f"the admin token {path} cannot be read ({error.strerror}); name it with --admin-token"
        ) from error
    return Admin(url, token, certificate=certificate)


def make_key(data: Path, private: Path) -> str:
    """Make the signing key unless it is there, trust it in `data`, and return its public half.

    Raises `BadKeyPlace`, `BadKey`.
    """
    if private.resolve().is_relative_to(data.resolve()):
        raise BadKeyPlace(
            f"{private} lies in the gateway's own folder; keep the signing key elsewhere, so that "
            "who takes the gateway cannot sign packages"
        )
    trusted = data / PUBLISHER
    if private.exists():
        key = keys.load_private(private)
    else:
        try:
            private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadKeyPlace(
                f"the folder of {private} cannot be made ({error.strerror}); name another place "
                "with --private"
            ) from error
        key = keys.generate()
        keys.save_private(key, private)
    text = keys.public_text(key)
    if trusted.exists() and trusted.read_text(encoding="ascii").strip() != text:
        raise BadKeyPlace(
            f"{trusted} holds another key, and devices enrolled with it trust no second one; "
            "remove that file first if it is to be replaced, and enrol the devices again"
        )
    try:
        trusted.parent.mkdir(parents=True, exist_ok=True)
        trusted.write_text(text + "\n", encoding="ascii")
    except OSError as error:
        raise DataUnusable(
            f"{trusted} cannot be written ({error.strerror}); name another folder with --data"
        ) from error
    return text


def default_key() -> Path:
    return Path.home() / ".config" / "longstop" / "publisher.key"
