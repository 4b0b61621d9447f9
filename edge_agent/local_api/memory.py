"""Memory lent to callers with large inputs: they write there, the worker reads it where it lies.

1. The worker makes it, so it can seal its size: a caller that cuts it short would otherwise kill
   the worker at the next look.
2. It belongs to one connection and goes with it. What a caller alters while it is being looked at
   alters its own answer and nobody else's.
3. All of it together is bounded; who gets none sends its inputs through the socket.
"""

import array
import fcntl
import mmap
import os
import socket

from edge_agent.sdk import wire

MOST_TOGETHER = 64 << 20
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Room:
    """How much is lent in this process."""

    def __init__(self, most: int = MOST_TOGETHER) -> None:
        self._left = most

    def lend(self, size: int) -> "SharedMemory | None":
        """Memory of this size, or None where there is no more."""
        if not 0 < size <= min(self._left, wire.MAX_BODY):
            return None
        try:
            memory = SharedMemory(size, self)
        except OSError:
            return None
        self._left -= size
        return memory

    def returned(self, size: int) -> None:
        self._left += size


class SharedMemory:
    """One connection's."""

    def __init__(self, size: int, room: Room) -> None:
        """Raises `OSError`."""
        self._size = size
        self._room = room
        self._descriptor = os.memfd_create("longstop", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._descriptor, size)
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._view = memoryview(mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ))
        except OSError:
            os.close(self._descriptor)
            raise

    def hand_over(self, to: socket.socket) -> bool:
        """Send it, with a frame that says so; False where the caller does not take it."""
        frame = wire.head(b'{"ok":true,"lent":%d}' % self._size)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self._descriptor]))
        try:
            return to.sendmsg([frame], [rights]) == len(frame)
        except OSError:
            return False

    def holds(self, at: int, size: int) -> bool:
        return 0 <= at <= at + size <= self._size

    def view(self, at: int, size: int) -> memoryview:
        """Where an input lies."""
        return self._view[at : at + size]

    def close(self) -> None:
        """Give it back; whoever still looks at a part keeps the map alive until it is done."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._view = memoryview(b"")
            self._room.returned(self._size)
