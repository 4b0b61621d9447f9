"""Which candidate wins, which provider is tried: rules on values."""

import pytest

from models.errors import NoCandidate, ProviderUnavailable
from models.runtimes.base import Skipped
from models.runtimes.choice import best
from models.runtimes.measure import Measured, turns
from models.runtimes.processor import telling
from models.runtimes.providers import Unavailable, first_that_opens, in_order

KNOWN = ("cuda", "gpu", "cpu")
INTEL = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Some Processor @ 2.40GHz
cpu MHz\t\t: {mhz}
flags\t\t: {flags}

processor\t: 1
flags\t\t: another
"""
ARM = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n"


def found(*times: float | None) -> list[Measured]:
    return [
        Measured(at, f"file {at}", run_us=time, unfit="golden 3 differs" if time is None else None)
        for at, time in enumerate(times)
    ]


def test_the_first_candidate_wins_unless_another_is_clearly_faster() -> None:
    winner, reason = best(found(100.0, 96.0, 101.0))
    assert winner.at == 0
    assert reason == (
        "file 0: 100.0 us against file 1 96.0 us, file 2 101.0 us; "
        "within 5% the one named first stays"
    )


def test_a_candidate_clearly_faster_wins() -> None:
    winner, reason = best(found(100.0, 94.0, 80.0, 79.0))
    assert winner.at == 2
    assert reason.startswith("file 2: 80.0 us against file 0 100.0 us, file 1 94.0 us")


def test_an_unfit_candidate_never_wins_and_is_named() -> None:
    winner, reason = best(found(None, 50.0))
    assert winner.at == 1
    assert reason == "file 1: 50.0 us; file 0 is unfit: golden 3 differs"


@pytest.mark.parametrize("times", [(), (None, None)])
def test_when_none_is_fit_the_reasons_are_said(times: tuple[float | None, ...]) -> None:
    with pytest.raises(NoCandidate) as caught:
        best(found(*times))
    assert str(caught.value).count("golden 3 differs") == len(times)


@pytest.mark.parametrize(
    ("wanted", "tried"),
    [
        ("cpu", ("cpu",)),
        ("auto", KNOWN),
        (" GPU , cpu", ("gpu", "cpu")),
        ("npu,auto", ("npu", *KNOWN)),
        ("cpu,auto", ("cpu", "cuda", "gpu")),
    ],
)
def test_providers_are_tried_in_the_order_given(wanted: str, tried: tuple[str, ...]) -> None:
    assert in_order(wanted, KNOWN) == tried


def test_what_cannot_serve_is_passed_over_with_its_reason() -> None:
    def attempt(name: str) -> str:
        if name != "cpu":
            raise Unavailable(f"no {name} here")
        return "opened"

    opened, skipped = first_that_opens("auto", KNOWN, attempt)
    assert opened == "opened"
    assert skipped == (Skipped("cuda", "no cuda here"), Skipped("gpu", "no gpu here"))
    with pytest.raises(ProviderUnavailable, match=r"\(cuda: no cuda here; gpu: no gpu here\)"):
        first_that_opens("cuda,gpu", KNOWN, attempt)


def test_a_processor_is_its_kind_and_its_flags_in_any_order_and_at_any_clock() -> None:
    one = telling(INTEL.format(mhz="800.1", flags="sse avx2"))
    assert one == telling(INTEL.format(mhz="2400.0", flags="avx2 sse"))
    assert one != telling(INTEL.format(mhz="800.1", flags="sse avx2 avx512_vnni"))
    assert telling(ARM) == ("Features: asimd fp", "CPU implementer: 0x41")
    assert telling("") == ()


def test_every_round_begins_with_another_candidate() -> None:
    assert [turns(3, number) for number in range(4)] == [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 1, 2)]
