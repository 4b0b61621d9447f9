"""Brings the cloud's later answers to the files they belong to.

1. An answer file that was provisional becomes final; what was said first stays in it.
2. A revision is taken once it is written. One that comes before its provisional answer is written,
   or cannot be written now, comes again.
3. A file that is gone, or was written anew, is owed nothing any more.
4. After a restart the answer files themselves say what they are owed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256

from edge_agent.sdk.answer import Revision
from edge_agent.sdk.errors import LongstopError

Revisions = Callable[[], AsyncIterator[Revision]]
"""What came for this source; ends after a while without any, and then it is asked again. What was
yielded is taken when the next one is asked for."""
Revise = Callable[[Revision], Awaitable[bool]]
"""Write it down, or find that nobody is owed it. False: not now."""

log = logging.getLogger(__name__)


async def follow(revisions: Revisions, revise: Revise, *, again_s: float) -> None:
    """Until cancelled."""
    while True:
        try:
            if await _all(revisions(), revise):
                continue
        except LongstopError as error:
            log.info("late.unavailable code=%s why=%s", error.code, error)
        except Exception:  # the outermost loop: say, wait, begin again
            log.exception("late.fault")
        await asyncio.sleep(again_s)


async def _all(coming: AsyncIterator[Revision], revise: Revise) -> bool:
    """Whether all that came is dealt with; what follows one that is not comes again."""
    async for one in coming:
        if not await revise(one):
            return False
    return True


def client_of(source: str, task: str) -> str:
    """Who asks for a source: each task's own, so that no other takes its revisions."""
    name = f"{source}.{task}"
    return name if len(name) <= 63 else f"{source}-{sha256(task.encode()).hexdigest()[:24]}"
