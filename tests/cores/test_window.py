"""Windows over samples: each sample is in one, or is left out, and none spans a hole."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.samples import Sample
from edge_agent.sources.window import BACK_S, Left, Window, Windows


def fed(windows: Windows, *times: float) -> list[Window | Left]:
    return [one for at in times for one in windows.add(Sample(at, (at,)))]


def rows(*times: float) -> tuple[tuple[float, ...], ...]:
    return tuple((at,) for at in times)


def test_windows_follow_each_other() -> None:
    assert fed(Windows(2, 2, 0), 1, 2, 3, 4, 5) == [
        Window(1, 2, rows(1, 2)),
        Window(3, 4, rows(3, 4)),
    ]


def test_windows_overlap_with_a_smaller_stride() -> None:
    assert [one.rows for one in fed(Windows(3, 1, 0), 1, 2, 3, 4) if isinstance(one, Window)] == [
        rows(1, 2, 3),
        rows(2, 3, 4),
    ]


def test_a_larger_stride_leaves_samples_between() -> None:
    found = fed(Windows(2, 3, 0), 1, 2, 3, 4, 5, 6, 7, 8)
    assert [one.first for one in found] == [1, 4, 7]


def test_no_window_spans_a_pause() -> None:
    assert fed(Windows(3, 3, 1.5), 1, 2, 5, 6, 7) == [
        Left("gap", 1, 2),
        Window(5, 7, rows(5, 6, 7)),
    ]


def test_samples_of_a_window_given_out_are_not_left_out_again() -> None:
    windows = Windows(3, 1, 1.5)
    assert fed(windows, 1, 2, 3) == [Window(1, 3, rows(1, 2, 3))]
    assert windows.broken() == []
    assert fed(windows, 4, 5) == []
    assert windows.broken() == [Left("gap", 4, 5)]


def test_a_sample_that_comes_late_or_twice_is_left_out() -> None:
    assert fed(Windows(3, 3, 0), 1, 2, 2, 1, 3) == [
        Left("out_of_order", 2, 2),
        Left("out_of_order", 1, 1),
        Window(1, 3, rows(1, 2, 3)),
    ]


def test_a_sensor_whose_clock_was_set_back_begins_anew() -> None:
    long_ago = 100.0 - BACK_S - 1
    assert fed(Windows(2, 2, 0), 100.0, long_ago, long_ago + 1) == [
        Left("gap", 100, 100),
        Window(long_ago, long_ago + 1, rows(long_ago, long_ago + 1)),
    ]


def test_without_times_samples_have_places() -> None:
    windows = Windows(2, 2, 1.0)
    found = [one for n in range(4) for one in windows.add(Sample(None, (n,)))]
    assert [(one.first, one.last) for one in found] == [(0, 1), (2, 3)]


@given(
    st.lists(st.one_of(st.floats(-20, 20), st.just(None)), max_size=60),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([0.0, 3.0]),
)
def test_every_sample_is_in_a_window_left_out_or_still_waits(
    pauses: list[float | None], size: int, stride: int, gap_s: float
) -> None:
    stride = min(size, stride)
    windows, now, fate = Windows(size, stride, gap_s), 0.0, 0
    given_in = 0
    seen: set[float] = set()
    for number, pause in enumerate(pauses):
        if pause is None:
            found = windows.broken()
        else:
            now += pause
            given_in += 1
            found = windows.add(Sample(now, (float(number),)))
        for one in found:
            if isinstance(one, Window):
                assert len(one.rows) == size
                seen |= {row[0] for row in one.rows}
                assert list(one.rows) == sorted(one.rows)
            elif one.reason == "out_of_order":
                fate += 1
    waiting = sum(1 for one in windows.broken() if isinstance(one, Left))
    assert len(seen) + fate <= given_in
    assert waiting <= 1
