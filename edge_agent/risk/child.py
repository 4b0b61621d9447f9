"""Starts the short process that calibrates, and waits for its outcome."""

import subprocess
import sys
from functools import partial

import msgspec

from edge_agent.risk.job import Order, Outcome
from sync.runner import Runner

LIMIT_S = 300.0
"""A calibration of two thousand audits takes seconds on a slow device."""


class CalibrateProcess:
    """One at a time for each thread of its runner."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._children: set[subprocess.Popen[bytes]] = set()

    async def calibrate(self, order: Order) -> Outcome:
        """The outcome; a process that ends without one has made no certificate."""
        return await self._runner.submit(partial(self._run, msgspec.json.encode(order)))

    def close(self) -> None:
        """End what is under way: its audits are still here after the next start."""
        for child in tuple(self._children):
            child.kill()

    def _run(self, order: bytes) -> Outcome:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "edge_agent.risk.recalibrate"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._children.add(child)
        try:
            said, _ = child.communicate(order, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return Outcome(None, f"calibrating took longer than {LIMIT_S:.0f} s")
        finally:
            self._children.discard(child)
        try:
            return msgspec.json.decode(said, type=Outcome)
        except msgspec.DecodeError:
            code = child.returncode
            return Outcome(None, f"the calibrating process ended with {code}, unsaid why")
