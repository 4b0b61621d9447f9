"""The governor's rules as looks at a device: what was seen, what is done."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.governor.limits import (
    DAY_S,
    RARE,
    SLOW,
    WIDE_LINGER,
    Day,
    Effect,
    Governed,
    Level,
    LimitSettings,
    Measures,
    Reading,
    Renew,
    Take,
    measures,
    step,
)


class Device:
    """One device, looked at every ten seconds."""

    def __init__(self, settings: LimitSettings, day: Day | None = None) -> None:
        self.state = Governed(settings, day or Day())
        self.now = 0.0

    def is_seen(self, **saw: object) -> tuple[Effect, ...]:
        self.now += 10.0
        reading = Reading(seconds=10.0, **saw)  # type: ignore[arg-type] # its fields
        done = step(self.state, reading, self.now)
        self.state = done.state
        return done.effects

    def stays(self, seconds: float, **saw: object) -> list[Level]:
        """Levels it goes through meanwhile."""
        levels = []
        for _ in range(round(seconds / 10)):
            self.is_seen(**saw)
            levels.append(self.state.level)
        return levels

    @property
    def holds(self) -> Measures:
        return measures(self.state)


def test_a_device_without_budgets_and_without_sensors_is_left_alone() -> None:
    device = Device(LimitSettings())
    effects = device.is_seen(
        cpu_s=39.0,
        cores=4,
        busy=1.0,
        rss_bytes=1 << 40,
        disk_bytes=1 << 50,
        uplink_bytes=1 << 50,
        flash_bytes=1 << 50,
    )
    assert effects == ()
    assert device.holds == Measures()


def test_heat_lowers_sampling_first_then_sources_and_drops_answers_last() -> None:
    device = Device(LimitSettings())
    (first,) = device.is_seen(celsius=101.0)
    assert isinstance(first, Take)
    assert first.why == "101 °C"
    assert first.measures == Measures(Level.SPARE, backlog=False, audits=RARE)
    assert device.stays(20, celsius=101.0) == [Level.SPARE, Level.HOT]
    assert device.holds == Measures(Level.HOT, backlog=False, audits=RARE, sources=SLOW)
    assert device.stays(20, celsius=101.0) == [Level.HOT, Level.REFUSING]
    assert device.holds.level is Level.REFUSING
    assert device.holds.records, "what was answered is still told"


def test_a_level_is_left_slowly_one_at_a_time() -> None:
    device = Device(LimitSettings())
    device.stays(60, celsius=101.0)
    levels = device.stays(300, celsius=40.0)
    changes = [at for at, pair in enumerate(pairwise(levels)) if len({*pair}) > 1]
    assert [levels[0], *(levels[at + 1] for at in changes)] == [
        Level.REFUSING,
        Level.HOT,
        Level.SPARE,
        Level.NORMAL,
    ]
    assert all(later - earlier >= 6 for earlier, later in pairwise(changes))
    assert device.holds == Measures()
    assert device.state.why == ""


def test_heat_around_a_limit_does_not_make_a_device_flap() -> None:
    device = Device(LimitSettings(spare_c=80.0))
    changed = 0
    for turn in range(100):
        changed += len(device.is_seen(celsius=80.5 if turn % 2 else 79.5))
    assert changed == 1
    assert device.state.level is Level.SPARE


def test_a_busy_machine_and_a_greedy_agent_spare_but_refuse_nobody() -> None:
    device = Device(LimitSettings(load=0.5, cpu_share=0.2))
    assert device.stays(100, busy=1.0, cpu_s=40.0, cores=4)[-1] is Level.HOT
    assert device.state.over == ("cpu",)
    alone = Device(LimitSettings(cpu_share=0.2))
    assert alone.stays(100, cpu_s=10.0, cores=4)[-1] is Level.SPARE, "a quarter is not far over"
    assert "takes 25%" in alone.state.why


def test_over_the_uplink_s_budget_only_what_somebody_waits_for_goes_out() -> None:
    device = Device(LimitSettings(uplink_bytes_per_day=1000))
    assert device.is_seen(uplink_bytes=999) == ()
    (taken,) = device.is_seen(uplink_bytes=1)
    assert isinstance(taken, Take)
    assert taken.measures == Measures(backlog=False, records=False)
    assert "uplink" in taken.why
    assert device.state.level is Level.NORMAL


def test_the_day_ends_a_day_after_it_began_whatever_it_used() -> None:
    device = Device(LimitSettings(uplink_bytes_per_day=1000), Day(DAY_S - 15, 5000, 7))
    device.is_seen()
    assert not device.holds.records
    device.is_seen(uplink_bytes=5)
    assert device.state.day == Day(0.0, 5, 0)
    assert device.holds == Measures()


def test_flash_that_has_to_be_spared_makes_commits_larger_before_the_budget_is_spent() -> None:
    device = Device(LimitSettings(flash_bytes_per_day=1000))
    assert device.is_seen(flash_bytes=799) == ()
    assert device.is_seen(flash_bytes=1) != ()
    assert device.holds == Measures(audits=RARE, linger=WIDE_LINGER)
    over = [device.state.over]
    device.is_seen(flash_bytes=200)
    assert [*over, device.state.over] == [(), ("flash",)]


def test_memory_over_its_budget_renews_the_largest_worker_and_not_again_at_once() -> None:
    device = Device(LimitSettings(ram_mb=100))
    assert device.is_seen(rss_bytes=100 << 20) == ()
    assert Renew() in device.is_seen(rss_bytes=101 << 20)
    assert Renew() not in device.is_seen(rss_bytes=101 << 20)
    assert device.state.over == ("ram",)
    device.now += 600
    assert Renew() in device.is_seen(rss_bytes=101 << 20)


def test_a_full_folder_is_said() -> None:
    device = Device(LimitSettings(disk_mb=1))
    device.is_seen(disk_bytes=(1 << 20) + 1)
    assert device.state.over == ("disk",)


@pytest.mark.parametrize("saw", [{}, {"celsius": None}, {"busy": None, "cpu_s": None}])
def test_what_nobody_can_read_asks_for_nothing(saw: dict[str, object]) -> None:
    device = Device(LimitSettings(load=0.1, cpu_share=0.1, ram_mb=32))
    assert device.is_seen(**saw) == ()


READINGS = st.builds(
    Reading,
    seconds=st.floats(0, 40_000),
    cpu_s=st.one_of(st.none(), st.floats(0, 1e6)),
    cores=st.integers(1, 8),
    busy=st.one_of(st.none(), st.floats(0, 1)),
    celsius=st.one_of(st.none(), st.floats(-40, 150)),
    rss_bytes=st.one_of(st.none(), st.integers(0, 1 << 40)),
    uplink_bytes=st.integers(0, 1 << 40),
    flash_bytes=st.integers(0, 1 << 40),
)
BUDGETS = LimitSettings(
    ram_mb=100, cpu_share=0.5, load=0.8, uplink_bytes_per_day=1 << 30, flash_bytes_per_day=1 << 30
)


@given(st.lists(READINGS, max_size=30))
def test_levels_change_by_one_and_are_told_whenever_measures_change(seen: list[Reading]) -> None:
    state, now = Governed(BUDGETS), 0.0
    for reading in seen:
        now += reading.seconds
        done = step(state, reading, now)
        assert abs(done.state.level - state.level) <= 1
        told = [one.measures for one in done.effects if isinstance(one, Take)]
        changed = measures(done.state) != measures(state)
        assert told == ([measures(done.state)] if changed else [])
        # Nothing that only we use makes us refuse.
        if done.state.level is Level.REFUSING and state.level is not Level.REFUSING:
            assert reading.celsius is not None
            assert reading.celsius >= BUDGETS.refuse_c
        state = done.state
