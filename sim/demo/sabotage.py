"""Breaks one promise on purpose, from outside, so that the demo can be seen to notice.

No shipped program has a switch for this: a record is lost by deleting it from an outbox file, one
is counted twice by sending it again under a new number, and answers are late because a worker is
held up by a signal.
"""

import asyncio
import os
import signal
import sqlite3
import time
from contextlib import closing

import httpx

from sim.demo.fleet import Fleet
from sim.demo.plan import DEADLINE_MS, Device
from sync.wire import codec, v1


async def hold_up_a_worker(fleet: Fleet, device: Device) -> None:
    """Stop a worker for twice the deadline: its callers' answers are late or never come."""
    worker = await fleet.worker_pid(device)
    os.kill(worker, signal.SIGSTOP)
    await asyncio.sleep(2 * DEADLINE_MS / 1000)
    os.kill(worker, signal.SIGCONT)


def lose_a_batch(fleet: Fleet, device: Device) -> None:
    """Delete the youngest undelivered batch behind the agent's back."""
    with closing(sqlite3.connect(fleet.outbox(device), timeout=10)) as connection, connection:
        connection.execute("DELETE FROM batch WHERE lo = (SELECT max(lo) FROM batch)")


async def deliver_twice(fleet: Fleet, device: Device) -> None:
    """Send a delivered batch again as if it were new: same answers, another incarnation."""
    with closing(sqlite3.connect(f"file:{fleet.database}?mode=ro", uri=True)) as connection:
        lo, hi, body = connection.execute(
            "SELECT lo, hi, body FROM batch WHERE device = ? ORDER BY lo DESC LIMIT 1",
            (device.name,),
        ).fetchone()
    copy = v1.Batch(device.name, "feedfacecafe", 1, lo, hi, time.time(), body)
    async with httpx.AsyncClient(trust_env=False) as client:
        reply = await client.post(
            f"{fleet.url}/v1/up",
            content=codec.encode(copy),
            headers={"Authorization": f"Bearer {fleet.token(device)}"},
        )
        reply.raise_for_status()
