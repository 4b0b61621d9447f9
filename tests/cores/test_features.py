"""Features are kept, fetched once, and never hold up an answer, whatever befalls their source."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.errors import FeatureSourceOut, FieldInvalid, FieldMissing, WrongDtype
from models.pipeline.features import MOST_FLIGHTS, CachedFeatures, InPool, Key, Row, key_of
from models.pipeline.features_twin import FeatureTable

NAMES = ("spent", "visits")
DEFAULT = (-1.0, 0.0)
ROWS: dict[Key, dict[str, float | None]] = {
    "ann": {"spent": 12.5, "visits": 3},
    "ben": {"spent": None, "visits": float("nan")},
}


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1e9


class Played:
    """A source that does as each read is told."""

    def __init__(self, read: Callable[[Key], Row | None]) -> None:
        self._read = read
        self.asked: list[Key] = []

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        self.asked.append(key)
        return self._read(key)


def over(
    source: FeatureTable | Played, clock: Time, *, ttl_s: float = 60.0, most_rows: int = 100
) -> CachedFeatures:
    return CachedFeatures(
        source, clock, names=NAMES, default=DEFAULT, ttl_s=ttl_s, most_rows=most_rows
    )


def test_a_row_is_fetched_then_kept_then_fetched_again() -> None:
    clock, table = Time(), FeatureTable(ROWS)
    features = over(table, clock)
    first = features.get("ann")
    assert (first.values.tolist(), first.origin, first.age_s) == ([12.5, 3], "source", 0)
    assert first.values.dtype == np.float32
    clock.now += 59
    kept = features.get("ann")
    assert (kept.origin, kept.age_s) == ("cache", 59)
    clock.now += 1
    assert features.get("ann").origin == "source"
    assert table.asked == ["ann", "ann"]
    counts = features.counts
    assert (counts.hits, counts.misses, counts.defaults) == (1, 2, 0)


def test_what_is_given_cannot_be_written() -> None:
    values = over(FeatureTable(ROWS), Time()).get("ann").values
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0


def test_age_counts_from_when_the_source_says_it_was_true() -> None:
    clock = Time()
    features = over(Played(lambda _: Row((1.0, 2.0), age_s=300.0)), clock)
    assert features.get("ann").age_s == 300
    clock.now += 10
    assert features.get("ann").age_s == 310


def test_a_source_that_is_out_gives_the_default_and_is_left_alone_for_a_while() -> None:
    clock, table = Time(), FeatureTable(ROWS)
    features = over(table, clock)
    table.goes_out()
    given = features.get("ann")
    assert (given.values.tolist(), given.origin, given.age_s) == ([-1, 0], "default", None)
    assert given.filled == NAMES
    assert given.why == "the table is out"
    table.comes_back()
    clock.now += 0.5
    assert features.get("ann").why == "the source is out and rests"
    assert table.asked == []
    clock.now += 0.5
    assert features.get("ann").origin == "source"
    counts = features.counts
    assert (counts.misses, counts.defaults, counts.failures, counts.late) == (3, 2, 1, 0)


def test_kept_rows_are_given_while_the_source_is_out_and_not_after_their_time() -> None:
    clock, table = Time(), FeatureTable(ROWS)
    features = over(table, clock)
    features.get("ann")
    table.goes_out()
    clock.now += 59
    assert features.get("ann").origin == "cache"
    clock.now += 1
    assert features.get("ann").origin == "default"


def test_an_unknown_key_is_the_default_and_is_remembered() -> None:
    table = FeatureTable(ROWS)
    features = over(table, Time())
    for _ in range(2):
        given = features.get("zoe")
        assert (given.origin, given.why) == ("default", "the source does not have this key")
    assert table.asked == ["zoe"]
    assert (features.counts.hits, features.counts.defaults) == (1, 2)


def test_a_single_feature_that_is_missing_is_the_default_s() -> None:
    given = over(FeatureTable(ROWS), Time()).get("ben")
    assert (given.values.tolist(), given.origin, given.filled) == ([-1, 0], "source", NAMES)
    given = over(Played(lambda _: Row((1e39, 5.0))), Time()).get("ann")
    assert (given.values.tolist(), given.filled) == ([-1, 5], ("spent",))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (Row((1.0,)), "1 values for 2 features"),
        (Row(("12", 1.0)), "'spent' is a str"),  # type: ignore[arg-type]
    ],
)
def test_a_row_that_is_none_is_a_failure_of_the_source(row: Row, says: str) -> None:
    features = over(Played(lambda _: row), Time())
    assert says in (features.get("ann").why or "")
    assert features.counts.failures == 1


def test_a_row_that_comes_late_is_for_the_next_to_ask() -> None:
    clock = Time()

    def late(_: Key) -> Row:
        clock.now += 2
        return Row((1.0, 2.0))

    features = over(Played(late), clock)
    given = features.get("ann")
    assert (given.origin, given.why) == ("default", "no answer within 0.05 s")
    kept = features.get("ann")
    assert (kept.origin, kept.age_s) == ("cache", 2)
    assert features.counts.late == 1


def test_the_least_recently_used_row_goes_first() -> None:
    played = Played(lambda _: Row((1.0, 2.0)))
    features = over(played, Time(), most_rows=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        features.get(key)
    assert played.asked == ["a", "b", "c", "b"]


def test_a_time_to_live_of_zero_keeps_nothing() -> None:
    table = FeatureTable(ROWS)
    features = over(table, Time(), ttl_s=0.0)
    assert [features.get("ann").origin for _ in range(2)] == ["source", "source"]


def test_one_row_is_fetched_once_however_many_ask_together() -> None:
    asked, go = threading.Event(), threading.Event()

    def read(_: Key) -> Row:
        asked.set()
        assert go.wait(10)
        return Row((1.0, 2.0))

    played = Played(read)
    features = CachedFeatures(
        played, Time(), names=NAMES, default=DEFAULT, ttl_s=60, timeout_s=10, rest_s=1
    )
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(features.get, "ann")
        assert asked.wait(10)
        others = [pool.submit(features.get, "ann") for _ in range(4)]
        while features.counts.misses < 5:
            pass
        go.set()
        given = [each.result(10) for each in (first, *others)]
    assert played.asked == ["ann"]
    assert [each.values.tolist() for each in given] == [[1, 2]] * 5


def test_those_who_wait_for_a_row_hear_that_the_source_is_out() -> None:
    asked, go = threading.Event(), threading.Event()

    def read(_: Key) -> Row:
        asked.set()
        assert go.wait(10)
        raise FeatureSourceOut("no route")

    features = CachedFeatures(
        Played(read), Time(), names=NAMES, default=DEFAULT, ttl_s=60, timeout_s=10
    )
    with ThreadPoolExecutor(2) as pool:
        given = [pool.submit(features.get, "ann")]
        assert asked.wait(10)
        given.append(pool.submit(features.get, "ann"))
        while features.counts.misses < 2:
            pass
        go.set()
        assert [each.result(10).why for each in given] == ["no route"] * 2
    assert features.counts.failures == 1


def test_a_source_that_keeps_no_timeout_is_held_to_it_in_a_pool() -> None:
    go = threading.Event()

    def read(_: Key) -> Row:
        assert go.wait(10)
        return Row((1.0, 2.0))

    played = Played(read)
    with ThreadPoolExecutor(1) as pool:
        features = CachedFeatures(
            InPool(played, pool),
            Time(),
            names=NAMES,
            default=DEFAULT,
            ttl_s=60,
            timeout_s=0.01,
            rest_s=0.0,
        )
        assert features.get("ann").why == "no answer within 0.01 s"
        assert features.get("ann").why == "no answer within 0.01 s"  # waits for the same flight
        go.set()
        pool.submit(lambda: None).result(10)
        assert features.get("ann").origin == "cache"
    assert played.asked == ["ann"]
    for _ in range(2):
        assert features.get("ben").why == "the pool that asks the source is shut down"


def test_a_source_that_never_comes_back_holds_only_so_many() -> None:
    go = threading.Event()

    def read(_: Key) -> None:
        assert go.wait(10)

    played = Played(read)
    with ThreadPoolExecutor(1) as pool:
        features = CachedFeatures(
            InPool(played, pool),
            Time(),
            names=NAMES,
            default=DEFAULT,
            ttl_s=60,
            timeout_s=0.0001,
            rest_s=0.0,
        )
        whys = [features.get(key).why for key in range(MOST_FLIGHTS + 1)]
        go.set()
    assert whys[-1] == f"{MOST_FLIGHTS} rows are on their way already"
    assert set(whys[:-1]) == {"no answer within 0.0001 s"}


def test_an_error_of_our_own_in_a_source_is_loud_and_ends_its_flight() -> None:
    def read(_: Key) -> Row:
        raise KeyError("a bug")

    played = Played(read)
    features = over(played, Time())
    for _ in range(2):
        with pytest.raises(KeyError):
            features.get("ann")
    assert played.asked == ["ann", "ann"]


def test_declarations_that_cannot_be_are_refused() -> None:
    table, clock = FeatureTable(ROWS), Time()
    for names, default, ttl_s in [
        ((), (), 1.0),
        (NAMES, (1.0,), 1.0),
        (NAMES, (1.0, float("nan")), 1.0),
        (NAMES, DEFAULT, -1.0),
    ]:
        with pytest.raises(ValueError, match=r"default|least"):
            CachedFeatures(table, clock, names=names, default=default, ttl_s=ttl_s)


def test_a_key_is_a_text_a_whole_number_or_a_field_of_a_record() -> None:
    assert key_of("ann") == "ann"
    assert key_of(np.array([7], np.int32)) == 7
    assert key_of({"customer": "ann"}, "customer") == "ann"
    for value in (np.array([1, 2]), np.array(1.0), b"ann"):
        with pytest.raises(WrongDtype):
            key_of(value)
    with pytest.raises(FieldMissing, match="'customer'"):
        key_of({"customer": None}, "customer")
    for bad in (True, 1.5):
        with pytest.raises(FieldInvalid, match="'customer'"):
            key_of({"customer": bad}, "customer")
