"""Which files of a folder are whole, told by looks alone."""

from edge_agent.sources.watch import Seen, Watch


def file(name: str, *, size: int = 10, mtime_ns: int = 1, inode: int = 1) -> Seen:
    return Seen(name, size, mtime_ns, inode)


def test_a_file_is_whole_when_two_looks_saw_the_same() -> None:
    watch = Watch()
    growing, grown = file("a.npy", size=10), file("a.npy", size=20, mtime_ns=2)
    assert watch.look([growing]) == []
    assert watch.look([grown]) == []
    assert watch.look([grown]) == [grown]


def test_a_file_that_only_changed_its_time_is_still_being_written() -> None:
    watch = Watch()
    assert watch.look([file("a.npy", mtime_ns=1)]) == []
    assert watch.look([file("a.npy", mtime_ns=2)]) == []


def test_a_file_is_given_out_once_and_again_when_written_anew() -> None:
    watch = Watch()
    first, anew = file("a.npy"), file("a.npy", mtime_ns=9)
    watch.look([first])
    assert watch.look([first]) == [first]
    assert watch.look([first]) == []
    assert watch.look([anew]) == []
    assert watch.look([anew]) == [anew]


def test_unfinished_names_are_left_alone() -> None:
    watch = Watch()
    unfinished = [
        file(".a.npy", inode=1),
        file("b.npy.part", inode=2),
        file("c.npy.tmp", inode=3),
    ]
    for _ in range(3):
        assert watch.look(unfinished) == []


def test_a_file_renamed_in_is_whole_at_once() -> None:
    watch = Watch()
    watch.look([file("a.npy.part", inode=7)])
    done = file("a.npy", inode=7)
    assert watch.look([done]) == [done]
    assert watch.look([done]) == []


def test_a_rename_of_another_file_proves_nothing() -> None:
    watch = Watch()
    watch.look([file("a.npy.part", inode=7)])
    assert watch.look([file("b.npy", inode=8)]) == []


def test_files_are_given_out_by_name() -> None:
    watch = Watch()
    both = [file("b.npy", inode=2), file("a.npy", inode=1)]
    watch.look(both)
    assert [seen.name for seen in watch.look(both)] == ["a.npy", "b.npy"]


def test_a_file_that_came_back_is_given_out_again() -> None:
    watch = Watch()
    a = file("a.npy")
    watch.look([a])
    assert watch.look([a]) == [a]
    assert watch.look([]) == []
    assert watch.look([a]) == []
    assert watch.look([a]) == [a]


def test_what_could_not_be_dealt_with_comes_again() -> None:
    watch = Watch()
    a = file("a.npy")
    watch.look([a])
    assert watch.look([a]) == [a]
    watch.again(a)
    assert watch.look([a]) == [a]


def test_a_file_somebody_writes_is_not_whole_however_long_it_stands_still() -> None:
    watch = Watch()
    watch.written_to("a")
    half = Seen("a", 1, 1, 1)
    assert [watch.look([half]) for _ in range(5)] == [[]] * 5
    assert not watch.unsettled
    whole = Seen("a", 2, 2, 1)
    assert watch.finished("a", whole) == [whole]
    assert watch.look([whole]) == watch.finished("a", whole) == []


def test_a_file_that_was_renamed_in_is_whole_at_once() -> None:
    watch = Watch()
    one = Seen("a", 1, 1, 1)
    assert watch.finished("a.part", Seen("a.part", 1, 1, 1)) == []
    assert watch.finished("a", one) == [one]
    assert watch.finished("gone", None) == []


def test_when_the_kernel_s_word_is_lost_only_looks_count() -> None:
    watch = Watch()
    one = Seen("a", 1, 1, 1)
    watch.written_to("a")
    watch.forget_writers()
    assert watch.look([one]) == []
    assert watch.unsettled
    assert watch.look([one]) == [one]
