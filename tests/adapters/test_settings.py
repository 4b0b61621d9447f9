"""The settings grammar: which layer wins, and what a mistake is told."""

from pathlib import Path

import pytest
from msgspec import Struct

from edge_agent import settings as agent
from edge_agent.workplace import HttpTable, RuntimeSettings, SqliteTable
from sync.errors import SettingsError
from sync.settings import load


class Cascade(Struct, frozen=True, forbid_unknown_fields=True):
    budget: int = 10
    share: float = 0.25
    names: tuple[str, ...] = ()


class Program(Struct, frozen=True, forbid_unknown_fields=True):
    data: Path = Path("/var/lib/x")
    token: str = ""
    verbose: bool = False
    limit: int | None = 5
    cascade: Cascade = Cascade()


def read(
    *,
    toml: Path | None = None,
    environ: dict[str, str] | None = None,
    overrides: tuple[str, ...] = (),
) -> Program:
    return load(
        Program, toml=toml, environ=environ or {}, prefix="LONGSTOP_T_", overrides=overrides
    )


def test_defaults_file_environment_and_set_win_in_that_order(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('token = "file"\n[cascade]\nbudget = 1\nshare = 0.5\nnames = ["a"]\n')
    assert read() == Program()
    assert read(toml=file) == Program(
        token="file", cascade=Cascade(budget=1, share=0.5, names=("a",))
    )
    both = read(
        toml=file,
        environ={"LONGSTOP_T_CASCADE__BUDGET": "2", "LONGSTOP_T_TOKEN": "environment"},
        overrides=("cascade.budget=3",),
    )
    assert both == Program(token="environment", cascade=Cascade(budget=3, share=0.5, names=("a",)))


def test_text_becomes_what_the_field_is(tmp_path: Path) -> None:
    given = read(
        overrides=(
            f"data={tmp_path}",
            "token=1234",
            "verbose=true",
            "limit=null",
            'cascade.names=["x", "y"]',
            "cascade.share=0.75",
        )
    )
    assert given == Program(
        data=tmp_path,
        token="1234",
        verbose=True,
        limit=None,
        cascade=Cascade(share=0.75, names=("x", "y")),
    )


def test_text_that_only_looks_like_an_array_stays_text() -> None:
    assert read(overrides=("token=[::1]:80",)).token == "[::1]:80"
    assert read(overrides=("token=[1]\nlimit = 9",)).token == "[1]\nlimit = 9"


def test_variables_of_others_are_none_of_our_business() -> None:
    assert read(environ={"HOME": "/root", "LONGSTOP_OTHER": "1"}) == Program()


@pytest.mark.parametrize(
    ("environ", "overrides", "told"),
    [
        (
            {},
            ("cascade.bugdet=3",),
            r"unknown field `bugdet` - at `\$\.cascade`.*--set cascade\.bugdet",
        ),
        ({"LONGSTOP_T_CASCADE__BUGDET": "3"}, (), r"bugdet.*LONGSTOP_T_CASCADE__BUGDET"),
        ({}, ("cascade.budget=many",), r"`int`.*`\$\.cascade\.budget`"),
        ({}, ("cascade.names=x",), r"array.*`\$\.cascade\.names`"),
        ({}, ("cascade=3",), r"`object`.*`\$\.cascade`"),
        ({}, ("budget",), r"has no value"),
        ({}, ("cascade..budget=3",), r"names no key"),
        ({"LONGSTOP_T_": "3"}, (), r"names no key"),
        ({}, ("token=a", "token.b=c"), r"below 'token'"),
    ],
)
def test_a_mistake_is_told_with_its_place(
    environ: dict[str, str], overrides: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SettingsError, match=f"(?i){told}") as raised:
        read(environ=environ, overrides=overrides)
    assert raised.value.code == "bad_settings"


def test_a_path_that_is_no_text_is_a_mistake_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "program.toml"
    file.write_text("data = 5\n")
    with pytest.raises(SettingsError, match=r"expected a text for a Path, got int.*`\$\.data`"):
        read(toml=file)


def test_a_file_that_is_missing_or_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml cannot be read: No such file"):
        read(toml=tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(SettingsError, match=r"bad\.toml is not TOML"):
        read(toml=tmp_path / "bad.toml")
    (tmp_path / "typo.toml").write_text("[cascade]\nbugdet = 1\n")
    with pytest.raises(SettingsError, match=r"bugdet.*typo\.toml"):
        read(toml=tmp_path / "typo.toml")


FEATURES = """
gateway = "http://192.0.2.7:8080"
[features.customers]
kind = "sqlite"
path = "customers.db"
table = "customers"
key = "id"
[features.machines]
kind = "http"
path = "/v1/features/machines"
"""


def test_an_agent_passes_sources_custom_steps_and_runtime_on_to_its_workers(
    tmp_path: Path,
) -> None:
    (tmp_path / agent.FILE).write_text(FEATURES)
    loaded = agent.load(
        tmp_path,
        environ={"LONGSTOP_AGENT_RUNTIME__THREADS": "2"},
        overrides=("custom_steps=true", "runtime.provider=cuda, cpu"),
    )
    passed = agent.workplace(loaded, tmp_path)
    assert (passed.data, passed.gateway, passed.token_file, passed.custom_steps) == (
        str(tmp_path),
        "http://192.0.2.7:8080",
        str(tmp_path / "token"),
        True,
    )
    assert passed.features == {
        "customers": SqliteTable("customers.db", "customers", "id"),
        "machines": HttpTable("/v1/features/machines"),
    }
    assert passed.runtime == RuntimeSettings(provider="cuda, cpu", threads=2)
    plain = agent.AgentSettings()
    assert (plain.custom_steps, plain.features, plain.runtime) == (False, {}, RuntimeSettings())


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("features.x.kind=redis", r"redis.*`\$\.features"),
        ("features.x.kind=feast", r"missing required field `repository`"),
        ("features.x.path=/a", r"missing required field `kind`"),
        ("features.x={kind='http', path='customers'}", r"regex.*\.path"),
        ("features.x={kind='sqlite', path='a', table='b'}", r"field `key`"),
        ("features.x={kind='http', path='/a'}", r"features\.x are the gateway's"),
        ("runtime.precision=int8", r"int8"),
        ("runtime.provider=", r"regex.*`\$\.runtime\.provider`"),
        ("runtime.threads=0", r">= 1.*`\$\.runtime\.threads`"),
    ],
)
def test_a_mistake_in_them_is_told_with_its_place(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        agent.load(tmp_path, environ={}, overrides=(override,))
