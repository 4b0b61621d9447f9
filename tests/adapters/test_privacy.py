"""What of a hard input may leave a device, by its settings."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_agent.cascade.ports import InferRequest
from edge_agent.cascade.privacy import Ruled
from edge_agent.cascade.run import Cascade
from edge_agent.engine import Engine
from edge_agent.lookups import open_sources
from edge_agent.sdk.messages import Reply
from edge_agent.workplace import HttpTable, PrivacySettings, SqliteTable, Workplace
from models import package
from models.manifest import Role
from models.pipeline.values import Value
from models.predict import Prediction, Predictor
from sim.loop import VirtualClock, VirtualLoop, run
from sync.clock import SystemClock
from sync.runner import InlineRunner
from sync.wire import v1
from sync.wire.elements import unpack_bytes
from tests import raw_packages
from tests.peculiar_packages import build_lookup

HARD = {"orders": b'{"amount": 0.1, "risk": 5, "name": "Ada"}', "notes": b"one zero zero one"}


def request(dtype: str, data: bytes) -> InferRequest:
    return InferRequest("q", "shop", dtype, (len(data),), data, 300, 0.0, 0.3)


def predicted(folder: Path, task: str, data: bytes) -> tuple[InferRequest, Prediction]:
    make = {
        "orders": raw_packages.orders,
        "notes": raw_packages.notes,
        "photos": raw_packages.photos,
    }[task]
    predictor = Predictor.load(package.read(make(folder / task), Role.EDGE))
    dtype = predictor.package.manifest.input.dtype
    read: dict[str, Callable[[bytes], Value]] = {
        "record": json.loads,
        "text": bytes.decode,
        "bytes": bytes,
    }
    return request(dtype, data), predictor.predict(read[dtype](data))


def left(settings: PrivacySettings, given: InferRequest, said: Prediction) -> object:
    leaving = Ruled(settings).leaving(given, said)
    return None if leaving is None else json.loads(bytes(leaving.data))


def test_private_fields_leave_as_null_and_all_others_as_they_came(tmp_path: Path) -> None:
    given, said = predicted(tmp_path, "orders", HARD["orders"])
    assert left(PrivacySettings(fields=("name", "iban")), given, said) == {
        "amount": 0.1,
        "risk": 5,
        "name": None,
    }
    assert left(PrivacySettings(), given, said) == json.loads(HARD["orders"])


def test_only_named_fields_leave_and_a_private_one_never_does(tmp_path: Path) -> None:
    given, said = predicted(tmp_path, "orders", HARD["orders"])
    rule = PrivacySettings(escalate="features", features=("risk", "name"), fields=("name",))
    assert left(rule, given, said) == {"risk": 5}
    none = PrivacySettings(escalate="features", features=("else",))
    assert left(none, given, said) is None


@pytest.mark.parametrize("escalate", ["nothing", "features", "crops"])
def test_a_text_stays_where_only_parts_may_leave(tmp_path: Path, escalate: str) -> None:
    given, said = predicted(tmp_path, "notes", HARD["notes"])
    rule = PrivacySettings(escalate=escalate, features=("note",))  # type: ignore[arg-type] # a literal
    assert left(rule, given, said) is None


def test_what_is_no_record_does_not_leave_as_one(tmp_path: Path) -> None:
    _, said = predicted(tmp_path, "orders", HARD["orders"])
    assert left(PrivacySettings(fields=("name",)), request("record", b'{"na'), said) is None


def picture() -> bytes:
    """One object in the upper left quarter, uncertain; grey elsewhere."""
    held = np.asarray(Image.open(io.BytesIO(raw_packages.photo((45, 5), (95, 90))))).copy()
    held[2:, :, :][held[2:, :, :] == 0] = 99
    file = io.BytesIO()
    Image.fromarray(held).save(file, "PNG")
    return file.getvalue()


def test_a_picture_leaves_black_but_for_what_was_found_in_it(tmp_path: Path) -> None:
    given, said = predicted(tmp_path, "photos", picture())
    leaving = Ruled(PrivacySettings(escalate="crops")).leaving(given, said)
    assert leaving is not None
    whole = np.asarray(Image.open(io.BytesIO(given.data)))
    shown = np.asarray(Image.open(io.BytesIO(leaving.data)))
    assert shown.shape == whole.shape
    # Boxes are widened by a twentieth, so by one whole pixel here.
    assert (shown[:5, :5] == whole[:5, :5]).all()
    assert (shown[5:, :3] == 0).all()
    assert (whole[5:, :3] != 0).all()


def test_a_picture_in_which_nothing_was_found_stays(tmp_path: Path) -> None:
    given, said = predicted(tmp_path, "photos", raw_packages.photo((0, 0), (90, 90)))
    assert Ruled(PrivacySettings(escalate="crops")).leaving(given, said) is None


class World:
    """A cascade whose cloud answers at once."""

    def __init__(self, folder: Path, loop: VirtualLoop, rule: PrivacySettings) -> None:
        clock = VirtualClock(loop)
        self.asked: list[v1.Escalation] = []
        self.records: list[v1.Answered] = []
        predictor = Predictor.load(
            package.read(raw_packages.orders(folder / "orders"), Role.EDGE), clock_ns=lambda: 0
        )
        engine = Engine(
            predictor, digest="ab" * 32, runner=InlineRunner(), clock=clock, typical_s=0.0001
        )
        self.cascade = Cascade(
            engine=engine,
            ask=self,
            records=self,
            clock=clock,
            device="bench-1",
            privacy=Ruled(rule),
        )

    def ask(
        self, escalation: v1.Escalation, client: str, until: float
    ) -> Awaitable[v1.Escalated | v1.Refused]:
        self.asked.append(escalation)

        async def answered() -> v1.Escalated:
            return v1.Escalated(escalation.request_id, "orders", "odd", 0.9, "7", 100)

        return answered()

    def weigh(self, worth: float, cost: int) -> None:
        """No budget, so nobody finds a price."""

    def leave(self, question: v1.Escalation, client: str, *, kind: str, value: float) -> None:
        self.asked.append(question)

    def put(self, record: v1.Answered) -> None:
        self.records.append(record)


def told(folder: Path, rule: PrivacySettings, *, until: float = 0.3) -> tuple[World, Reply]:
    """One hard order, of a caller who waits until then."""
    worlds: list[tuple[World, Reply]] = []

    async def story(loop: VirtualLoop) -> None:
        world = World(folder, loop, rule)
        given = InferRequest("q", "shop", "record", (1,), HARD["orders"], 300, 0.0, until)
        worlds.append((world, await world.cascade.answer(given)))
        await asyncio.sleep(0)

    run(story)
    return worlds[0]


def test_the_cloud_is_asked_about_the_masked_record(tmp_path: Path) -> None:
    world, reply = told(tmp_path, PrivacySettings(fields=("name",)))
    assert (reply.source, reply.reason) == ("cloud", "escalated")
    (asked,) = world.asked
    (sent,) = unpack_bytes(asked.inputs[0].data)
    assert json.loads(bytes(sent))["name"] is None


@pytest.mark.parametrize("until", [0.3, 0.001])
def test_an_input_of_which_nothing_may_leave_is_answered_here_for_good_and_says_why(
    tmp_path: Path, until: float
) -> None:
    world, reply = told(tmp_path, PrivacySettings(escalate="nothing"), until=until)
    assert (reply.source, reply.final, reply.reason, reply.hard) == ("edge", True, "private", True)
    assert world.asked == []
    (record,) = world.records
    assert (record.final, record.reason) == (True, "private"), "nobody waits for a revision"


def test_a_source_elsewhere_is_not_asked_with_a_private_key(tmp_path: Path) -> None:
    whole = build_lookup(tmp_path / "lookup")
    (tmp_path / "token").write_text("secret")

    def opened(rule: PrivacySettings, table: HttpTable | SqliteTable) -> set[str]:
        place = Workplace(
            str(tmp_path),
            gateway="http://127.0.0.1:9",
            token_file=str(tmp_path / "token"),
            features={"customers": table},
            privacy=rule,
        )
        return set(open_sources(place, SystemClock(), whole))

    there, here = HttpTable("/v1/features/customers"), SqliteTable("x.db", "t", "id")
    assert opened(PrivacySettings(), there) == {"customers"}
    assert opened(PrivacySettings(fields=("customer",)), there) == set()
    assert opened(PrivacySettings(escalate="nothing"), there) == set()
    assert opened(PrivacySettings(fields=("else",)), there) == {"customers"}
    assert opened(PrivacySettings(fields=("customer",)), here) == {"customers"}
