"""docs/reference/certificates.md names every field of a certificate and every key of its bench."""

import subprocess
import sys

import msgspec

from models.calibrate.certificate import Binding, Certificate
from models.calibrate.curve import Curve, Gain
from tests.bench.calibration_rules import RULES
from tests.bench.certificates import CertificateFigures, RuleRow
from tests.bench.setting import Setting
from tests.house.tree import ROOT

PAGE = (ROOT / "docs" / "reference" / "certificates.md").read_text()
COMMON = {*Setting.__struct_fields__, "rows", "why"}


def test_every_field_of_a_certificate_is_on_the_page() -> None:
    structs = (Certificate, Binding, Curve, Gain)
    fields = {field.name for struct in structs for field in msgspec.structs.fields(struct)}
    assert {name for name in fields if f"`{name}`" not in PAGE} == set()


def test_every_key_column_and_rule_of_the_bench_is_on_the_page() -> None:
    keys = {*CertificateFigures.__struct_fields__, *RuleRow.__struct_fields__} - COMMON
    keys |= {rule.name for rule in RULES}
    assert {name for name in keys if f"`{name}`" not in PAGE} == set()


def test_the_bench_says_what_it_is_for_without_measuring_anything() -> None:
    script = str(ROOT / "tests" / "bench" / "certificates.py")
    done = subprocess.run(
        [sys.executable, "-P", script, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ./just bench certificates ")
