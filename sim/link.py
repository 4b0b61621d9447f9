"""One device's link on virtual time: delays, swallows, repeats, goes down and comes back.

It stands where sockets stand and decides nothing but the weather. A message that is swallowed gets
no reply and no error, as on a real radio link; the transport above must find out by itself.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from sim.scenario import Weather

Deliver = Callable[[bytes], Awaitable[bytes]]


class Link:
    """Carries one device's messages to the gateway and the replies back."""

    def __init__(self, weather: Weather, chance: random.Random, deliver: Deliver) -> None:
        self.up = True
        self.carried = 0
        self.swallowed = 0
        self.repeated = 0
        self._weather = weather
        self._chance = chance
        self._deliver = deliver
        self._repeats: set[asyncio.Task[None]] = set()

    async def carry(self, message: bytes) -> bytes:
        """The gateway's reply; for ever without one where the message or the reply is lost."""
        await self._way()
        if self._chance.random() < self._weather.duplicate:
            repeat = asyncio.get_running_loop().create_task(self._again(message))
            self._repeats.add(repeat)
            repeat.add_done_callback(self._repeats.discard)
        reply = await self._deliver(message)
        await self._way()
        self.carried += 1
        return reply

    async def live(self, until: float) -> None:
        """Go down and come up at random until then, and stay up."""
        loop = asyncio.get_running_loop()
        while self._weather.down_s:
            await asyncio.sleep(self._chance.expovariate(1 / self._weather.up_s))
            if loop.time() >= until:
                break
            self.up = False
            down_s = self._chance.expovariate(1 / self._weather.down_s)
            await asyncio.sleep(min(down_s, max(0.0, until - loop.time())))
            self.up = True

    async def close(self) -> None:
        """Drop what is still on its way."""
        for repeat in self._repeats:
            repeat.cancel()
        await asyncio.gather(*self._repeats, return_exceptions=True)

    async def _way(self) -> None:
        """One way across; never returns for a message that is lost."""
        spread = 1 - self._weather.jitter
        await asyncio.sleep(
            self._weather.delay_ms / 1000 * spread ** self._chance.uniform(-1.0, 1.0)
        )
        if not self.up or self._chance.random() < self._weather.loss:
            self.swallowed += 1
            await asyncio.get_running_loop().create_future()

    async def _again(self, message: bytes) -> None:
        await asyncio.sleep(self._chance.expovariate(1 / 30))
        if self.up:
            self.repeated += 1
            await self._deliver(message)
