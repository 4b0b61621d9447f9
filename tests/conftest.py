"""What every test runs under: repeatable chance, and on CI no silent skip.

`./just test --hypothesis-profile=search` looks further, with fresh chance and more examples.
"""

import os
from collections.abc import Generator

import hypothesis
import pytest

hypothesis.settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("search", max_examples=1000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("steady")


def skips_fail() -> bool:
    """CI sets this (`.ci/run`): there a test that cannot run is a hole, not a courtesy."""
    return os.environ.get("LONGSTOP_NO_SKIP") == "1"


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The skip's own words; pytest keeps them as (file, line, words)."""
    match report.longrepr:
        case (_, _, str(words)):
            return words.removeprefix("Skipped: ")
        case other:
            return str(other)


def harden(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and skips_fail():
        report.longrepr = f"skipped, and LONGSTOP_NO_SKIP=1 forbids it: {reason_of(report)}"
        report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    harden(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    harden(report)
    return report
