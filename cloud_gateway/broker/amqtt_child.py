"""amqtt as a process of its own: `amqtt_child PARENT_PID PASSWORDS HOST PORT MAX_BYTES`.

SIGHUP reads the password file again and drops who is no longer in it, as with mosquitto.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvloop

from cloud_gateway.broker.amqtt_plugin import GatewayBroker
from cloud_gateway.broker.tether import die_with

_log = logging.getLogger(__name__)


async def run(passwords: Path, host: str, port: int, max_bytes: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    broker = GatewayBroker(host, port, passwords, max_bytes)
    loop = asyncio.get_running_loop()
    ended, reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)

    async def drop_removed() -> None:
        while await reload.wait():
            reload.clear()
            try:
                await broker.drop_removed()
            except Exception:  # noqa: BLE001 - the next device must still be dropped
                _log.exception("broker.not_dropped")

    await broker.start()
    dropping = asyncio.create_task(drop_removed())
    await ended.wait()
    dropping.cancel()
    await broker.shutdown()


def main() -> None:
    parent, passwords, host, port, max_bytes = sys.argv[1:]
    die_with(int(parent))
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s %(message)s")
    uvloop.run(run(Path(passwords), host, int(port), int(max_bytes)))


if __name__ == "__main__":
    main()
