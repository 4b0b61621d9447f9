"""A cloud that is sick in each way we know: every request is answered by its deadline, on the
device, with a reason; and once it is well again each provisional answer is revised, once.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_agent.sdk import Answer, Client
from tests.local_device import hard
from tests.programs import Agent, Gateway, until
from tests.sick_cloud import QUESTIONS, TRANSPORT, SickCloudThread

pytestmark = pytest.mark.e2e
CALLERS, EACH = 4, 6
DEADLINE_MS = 600
SETTINGS = (
    "cloud.pace.beat_s=1",
    "cloud.pace.probe.base_s=0.5",
    "cloud.pace.probe.cap_s=1",
    "cloud.reply_timeout_s=1",
    "outbox.linger_ms=50",
    "outbox.reply_timeout_s=1",
)
REASONS = {"deadline", "link_down", "overloaded", "odd_reply", "late", "unlikely"}


class World:
    """A device and its gateway, with all the weather between them."""

    def __init__(self, gateway: Gateway, agent: Agent, cloud: SickCloudThread) -> None:
        self.gateway = gateway
        self.agent = agent
        self.cloud = cloud

    def ask(self, name: str) -> list[Answer]:
        """Several callers at once, each some hard cases one after the other."""

        def one(number: int) -> list[Answer]:
            with self.agent.client(name=f"{name}-{number}") as client:
                return [client.infer(hard(0, 2), deadline_ms=DEADLINE_MS) for _ in range(EACH)]

        with ThreadPoolExecutor(CALLERS) as threads:
            return [answer for answers in threads.map(one, range(CALLERS)) for answer in answers]

    def revised(self, name: str) -> list[str]:
        """Request ids of the revisions that wait for these callers now, in all."""
        found = []
        for number in range(CALLERS):
            with self.agent.client(name=f"{name}-{number}") as client:
                found += _taken(client)
        return found


def _taken(client: Client) -> list[str]:
    return [one.request_id for one in client.revisions(wait_s=0)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sick")
    with Gateway(folder / "cloud") as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        with SickCloudThread(int(gateway.url.rpartition(":")[2])) as cloud:
            address = f"gateway=http://127.0.0.1:{cloud.http}"
            invitation = gateway.invite("bench-1")
            with Agent(folder / "a", invitation, *SETTINGS, address) as agent:
                until(lambda: agent.serves("1.0.0"), what="serving")
                yield World(gateway, agent, cloud)


@pytest.mark.parametrize("fault", [*TRANSPORT, *QUESTIONS])
def test_every_request_is_answered_and_each_debt_is_paid_once(world: World, fault: str) -> None:
    def well() -> bool:
        with world.agent.client(name="well") as client:
            return client.infer(hard(0, 2), deadline_ms=2000).source == "cloud"

    until(well, within_s=60, what="well before")
    world.cloud.be(fault)
    answers = world.ask(fault)
    here = [answer for answer in answers if answer.source == "edge"]
    if fault == "twice":
        assert here == [], "the second time is no harm"
    else:
        assert len(here) == len(answers) == CALLERS * EACH
    assert {answer.reason for answer in here} <= REASONS
    assert {answer.label for answer in here} <= {"left"}
    world.cloud.be("none")
    owed = sorted(answer.request_id for answer in here if not answer.final)
    found: list[str] = []

    def all_revised() -> bool:
        found.extend(world.revised(fault))
        return len(found) >= len(owed)

    until(all_revised, within_s=60, what="revised after it")
    assert sorted(found) == owed
    until(lambda: world.agent.status()["escalations_waiting"] == 0, what="nothing is owed")
    until(lambda: world.agent.status()["pending"] == 0, what="records delivered")
    assert world.revised(fault) == []
