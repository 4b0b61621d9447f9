"""Fifty workers die by kill -9 under load; afterwards every book is read and balances.

Between device and gateway stands a tap of this test: it forwards what it hears, notes the records
in it, and goes deaf at times, so that answers of every kind and revisions meet the kills.
"""

import contextlib
import http.client
import http.server
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge_agent.sdk import Answer, DeadlineExceeded, LongstopError, Overloaded
from sync.wire import codec, v1
from tests.local_device import easy, hard
from tests.programs import Agent, Gateway, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KILLS = 50
CALLERS = 4
SETTINGS = (
    "cloud.pace.beat_s=1",
    "cloud.reply_timeout_s=0.5",
    "outbox.linger_ms=50",
    "outbox.reply_timeout_s=0.5",
    "outbox.policy.backoff={base_s = 0.2, cap_s = 1}",
    # The pause after an end is not what is tested here, and fifty of them add up.
    "restart.pause={base_s = 0.01, cap_s = 0.05}",
)


class Tap:
    """Forwards to the gateway and keeps the records that pass."""

    def __init__(self, gateway_url: str) -> None:
        self.batches: dict[tuple[str, int], list[v1.Record]] = {}
        self.hears = threading.Event()
        self.hears.set()
        address = urlsplit(gateway_url).netloc
        tap = self

        class Forward(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not tap.hears.wait(10):
                    return
                tap.note(self.path, body)
                headers = {key: value for key, value in self.headers.items() if key != "Host"}
                with closing(http.client.HTTPConnection(address, timeout=10)) as there:
                    there.request("POST", self.path, body, headers)
                    answer = there.getresponse()
                    said = answer.read()
                with contextlib.suppress(OSError):  # a device need not wait for us
                    self.send_response(answer.status)
                    for key, value in answer.getheaders():
                        if key.lower() not in ("connection", "transfer-encoding"):
                            self.send_header(key, value)
                    self.end_headers()
                    self.wfile.write(said)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forward)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def note(self, path: str, body: bytes) -> None:
        if path == "/v1/up" and isinstance(batch := codec.decode_up(body), v1.Batch):
            self.batches[batch.incarnation, batch.lo] = codec.unpack_records(batch.body)

    def records(self) -> list[v1.Record]:
        return [record for batch in self.batches.values() for record in batch]

    def close(self) -> None:
        self.hears.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Callers:
    """Programs on the device: easy and hard inputs, patient and impatient."""

    def __init__(self, agent: Agent) -> None:
        self.answers: dict[str, Answer] = {}
        self.given_up: set[str] = set()
        """No answer, in one of the two ways a valid request may go without."""
        self.troubles: list[LongstopError] = []
        self._agent = agent
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, number: int) -> None:
        chance = random.Random(number)
        with self._agent.client(name="app") as client:
            count = 0
            while not self._stop.is_set():
                count += 1
                request_id = f"{number}-{count}"
                sample = hard(0, 2) if chance.random() < 0.5 else easy(1)
                deadline_ms = chance.choice([150, 1000, 5000])
                try:
                    self.answers[request_id] = client.infer(
                        sample, deadline_ms=deadline_ms, request_id=request_id
                    )
                except (DeadlineExceeded, Overloaded):
                    self.given_up.add(request_id)
                except LongstopError as error:
                    self.troubles.append(error)
                time.sleep(chance.expovariate(60))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("cloud")) as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        yield gateway


def test_fifty_killed_workers_leave_ledger_outbox_and_revisions_right(
    gateway: Gateway, tmp_path: Path
) -> None:
    tap = Tap(gateway.url)
    with Agent(tmp_path / "a", gateway.invite("bench"), *SETTINGS) as agent:
        # Packages come from the gateway itself; questions and records pass the tap from here on.
        until(lambda: agent.serves("1.0.0"), what="first package served")
        assert agent.stop() == 0
    toml = tmp_path / "a" / "agent.toml"
    toml.write_text(toml.read_text().replace(gateway.url, tap.url))
    with contextlib.closing(tap), agent.again() as agent:
        until(lambda: agent.serves("1.0.0"), what="serving behind the tap")
        callers = Callers(agent)
        try:
            killed = kill_workers(agent, tap)
        finally:
            tap.hears.set()
            callers.stop()
        assert len(set(killed)) == KILLS
        until(lambda: settled(agent), within_s=60, what="everything asked and delivered")
        with agent.client(name="app") as client:
            revised = Counter(one.request_id for one in client.revisions(wait_s=0.5))
        until(lambda: settled(agent), what="revisions delivered")
        assert agent.stop() == 0
    check(callers, tap.records(), revised)
    check_ledger(gateway, tmp_path / "a" / "outbox" / "outbox.db")


def kill_workers(agent: Agent, tap: Tap) -> list[int]:
    chance = random.Random(50)
    killed: list[int] = []
    while len(killed) < KILLS:
        if len(killed) % 5 == 0:
            tap.hears.clear()
        elif len(killed) % 5 == 2:
            tap.hears.set()
        until(lambda: agent.worker() not in (None, *killed), what="the next worker serves")
        time.sleep(chance.uniform(0.0, 0.4))
        if (pid := agent.worker()) is not None:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed


def settled(agent: Agent) -> bool:
    status = agent.status()
    return bool(status["pending"] == 0 == status["escalations_waiting"])


def check(callers: Callers, records: list[v1.Record], revised: Counter[str]) -> None:
    """Every answer has its one record, every provisional one its one revision."""
    numbered = Counter(one.request_id for one in records if isinstance(one, v1.Answered))
    issued = Counter(one.request_id for one in records if isinstance(one, v1.Revised))
    answers = callers.answers
    provisional = {key for key, answer in answers.items() if not answer.final}
    live = [answer for answer in answers.values() if answer.source == "cloud"]
    assert callers.troubles == []
    # All that is meant to happen did.
    assert len(answers) > 200
    assert len(provisional) > 20
    assert len(live) > 20
    assert {key: numbered[key] for key in answers if numbered[key] != 1} == {}
    assert set(numbered.values()) == {1}
    assert set(numbered) <= set(answers) | callers.given_up
    assert {key: (issued[key], revised[key]) for key in provisional} == dict.fromkeys(
        provisional, (1, 1)
    )
    assert set(issued.values()) == {1}
    assert issued == revised
    recorded = {one.request_id for one in records if isinstance(one, v1.Answered) and not one.final}
    assert issued.keys() <= recorded | provisional


def check_ledger(gateway: Gateway, outbox: Path) -> None:
    """issued = delivered + lost + pending, each read in its own place."""
    with closing(sqlite3.connect(f"{outbox.as_uri()}?mode=ro", uri=True)) as device:
        ((next_number,),) = device.execute("SELECT v FROM meta WHERE k = 'next'")
        ((pending,),) = device.execute("SELECT coalesce(sum(hi - lo + 1), 0) FROM batch")
        ((unreported,),) = device.execute("SELECT coalesce(sum(hi - lo + 1), 0) FROM lost")
        ((questions,),) = device.execute("SELECT count(*) FROM escalation")
    ((delivered,),) = gateway.rows("SELECT coalesce(sum(hi - lo + 1), 0) FROM batch")
    ((lost,),) = gateway.rows("SELECT coalesce(sum(hi - lo + 1), 0) FROM loss")
    assert next_number - 1 == delivered + lost + pending
    assert (lost, unreported, pending, questions) == (0, 0, 0, 0)
