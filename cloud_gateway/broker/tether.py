"""Starts a program that ends when its parent does, even by kill -9: `tether PARENT_PID PROGRAM …`.

A broker left behind would hold its port against the next gateway. Linux only; elsewhere the program
starts all the same.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends; it stays so across exec."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the kernel knew
        sys.exit(1)


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    die_with(parent)
    os.execv(program[0], program)  # noqa: S606 - the program is the gateway's own choice


if __name__ == "__main__":
    main()
