"""A worker that behaves as written, for clients that must bear it."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.sdk.wire import FrameReader, head
from tests.local_device import TASK

Scene = Callable[[socket.socket], None]


class Scripted:
    """Plays one scene per connection, the last one for all that follow."""

    def __init__(self, folder: Path, *script: Scene, name: str = TASK) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / f"{name}.sock"))
        self._listening.listen(16)
        self._script = list(script)
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            scene = self._script[min(self.connections, len(self._script) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._play, args=(scene, connection))
            self._threads.append(thread)
            thread.start()

    def _play(self, scene: Scene, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # The client has seen enough.
            scene(connection)

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()


def requests(connection: socket.socket) -> Iterator[dict[str, object]]:
    """The requests that come over a connection, until it is closed."""
    reader = FrameReader()
    while count := connection.recv_into(reader.buffer()):
        for frame in reader.filled(count):
            yield json.loads(frame.meta)


def say(connection: socket.socket, request_id: object, **more: object) -> None:
    reply = {
        "id": request_id,
        "ok": True,
        "label": "left",
        "confidence": 0.9,
        "source": "edge",
        "final": True,
        "reason": "confident",
        "hard": False,
        "version": "1",
        "digest": "ab",
        "timings": {"prepare_us": 1, "run_us": 1, "wait_us": 0, "total_us": 2},
    }
    connection.sendall(head(json.dumps(reply | more).encode()))


def silent(connection: socket.socket) -> None:
    for _ in requests(connection):
        pass


def well_behaved(connection: socket.socket) -> None:
    for request in requests(connection):
        say(connection, request["id"])
