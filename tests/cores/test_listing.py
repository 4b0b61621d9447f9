"""Lists of devices: what is in them, in which order, and which stretch is shown."""

from typing import get_args
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cloud_gateway.dashboard.routes import BLANK
from cloud_gateway.errors import BadRequest
from cloud_gateway.facts import (
    MARKS,
    STATES,
    Answers,
    DeviceFacts,
    RefusalFacts,
    State,
    TaskFacts,
)
from cloud_gateway.listing import Chart, Query, Sort, matching, read, select

NOBODY = structs.replace(BLANK, name="nobody")


def device(name: str, state: State = "live", *, waiting: int = 0, hard: int = 0) -> DeviceFacts:
    return structs.replace(
        NOBODY,
        name=name,
        state=state,
        contact_at=10.0,
        said_at=10.0,
        tasks=(TaskFacts("apparel", "1", "d", "serving", 10.0, "1"),),
        answers=Answers(edge=100 - hard, cloud=hard, hard=hard),
        pending=0,
        escalations_waiting=waiting,
    )


def names(devices: tuple[DeviceFacts, ...]) -> list[str]:
    return [one.name for one in devices]


def test_the_unknown_sorts_last_whichever_way_the_rest_runs() -> None:
    fleet = [device("a", hard=5), NOBODY, device("b", hard=9)]
    up = select(fleet, Query(sort="escalated"))
    down = select(fleet, Query(sort="escalated", descending=True))
    assert names(up.devices) == ["a", "b", "nobody"]
    assert names(down.devices) == ["b", "a", "nobody"]


def test_equal_devices_stand_by_name_both_ways() -> None:
    fleet = [device("a", waiting=3), device("b", waiting=3), device("c", waiting=1)]
    assert names(select(fleet, Query(sort="waiting", descending=True)).devices) == ["a", "b", "c"]
    assert names(select(fleet, Query(sort="waiting")).devices) == ["c", "a", "b"]


def test_task_and_version_are_asked_of_the_same_task() -> None:
    two = structs.replace(
        device("two"),
        tasks=(
            TaskFacts("activity", "2", "d", "serving", 1.0, None),
            TaskFacts("apparel", "1", "d", "serving", 1.0, None),
        ),
    )
    assert matching([two], Query(task="apparel", version="1")) == [two]
    assert matching([two], Query(task="apparel", version="2")) == []


def test_a_name_matches_by_any_part_in_any_case() -> None:
    fleet = [device("Gate-01"), device("yard")]
    assert matching(fleet, Query(name="gate")) == [fleet[0]]


def test_a_device_that_never_spoke_is_not_behind_and_owes_nothing() -> None:
    wanted = structs.replace(NOBODY, tasks=(TaskFacts("apparel", None, None, None, None, "2"),))
    assert wanted.marks == ()


def test_marks_say_what_to_look_at() -> None:
    task = TaskFacts("apparel", "1", "d", "serving", 1.0, "2")
    refusal = RefusalFacts("apparel", "2", "hash_mismatch", "altered", 1.0, standing=True)
    one = structs.replace(device("a", waiting=1), tasks=(task,), refusals=(refusal,))
    assert one.marks == MARKS
    past = structs.replace(refusal, standing=False)
    assert structs.replace(one, refusals=(past,)).marks == ("behind", "owing")


@given(
    states=st.lists(st.sampled_from(STATES), max_size=40),
    limit=st.integers(1, 7),
    sort=st.sampled_from(get_args(Sort)),
    descending=st.booleans(),
)
def test_windows_tile_the_list_without_gap_or_repeat(
    states: list[State], limit: int, sort: Sort, descending: bool
) -> None:
    fleet = [device(f"n{index:02}", state) for index, state in enumerate(states)]
    shown: list[str] = []
    for offset in range(0, len(fleet) + limit, limit):
        query = Query(sort=sort, descending=descending, offset=offset, limit=limit)
        window = select(fleet, query)
        assert window.total == len(fleet)
        shown += names(window.devices)
    assert sorted(shown) == names(tuple(fleet))


@given(st.lists(st.sampled_from(STATES), max_size=40))
def test_every_device_is_in_the_list_of_exactly_one_state(states: list[State]) -> None:
    fleet = [device(f"n{index:02}", state) for index, state in enumerate(states)]
    lists = [matching(fleet, Query(state=state)) for state in STATES]
    assert sorted(one.name for found in lists for one in found) == [one.name for one in fleet]


@given(
    st.builds(
        Query,
        name=st.text(max_size=9),
        state=st.sampled_from((None, *STATES)),
        version=st.text(max_size=9),
        descending=st.booleans(),
        offset=st.integers(0, 99),
    )
)
def test_a_link_asks_for_what_it_was_made_of(query: Query) -> None:
    assert read(Query, dict(parse_qsl(query.link(), keep_blank_values=True))) == query


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"state": "gone"}, "Invalid enum value 'gone' - at `$.state`"),
        ({"limit": "0"}, "`$.limit`"),
        ({"limit": "100000"}, "`$.limit`"),
        ({"offset": "-1"}, "`$.offset`"),
        ({"offset": "ten"}, "`$.offset`"),
        ({"sort": "age"}, "`$.sort`"),
        ({"name": "x" * 201}, "`$.name`"),
        ({"colour": "red"}, "unknown field `colour`"),
    ],
)
def test_a_bad_parameter_is_named(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(BadRequest, match="parameters known here are name") as raised:
        read(Query, parameters)
    assert words in str(raised.value)


def test_a_chart_asks_for_a_day_at_most() -> None:
    assert read(Chart, {"minutes": "1440"}).minutes == 1440
    with pytest.raises(BadRequest):
        read(Chart, {"minutes": "1441"})
