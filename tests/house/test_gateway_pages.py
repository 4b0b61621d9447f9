"""The gateway's reference pages name every setting, verb, route, metric and error code there is."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from fastapi.routing import APIRoute, APIRouter
from msgspec import structs
from starlette.routing import BaseRoute, Route

from cloud_gateway import cli, errors
from cloud_gateway.app import create_app
from cloud_gateway.observe.metrics import Metrics
from cloud_gateway.settings import BrokerSettings, InferenceSettings, Settings, TlsSettings
from models import errors as model_errors
from models.errors import InputError
from tests.house.tree import ROOT

CLI = (ROOT / "docs/reference/gateway-cli.md").read_text()
API = (ROOT / "docs/reference/gateway-api.md").read_text()
ABSTRACT = {"GatewayError", "AuthError", "RequestError", "BusyError", "StartError", "AdminError"}


def kinds(of: type[errors.GatewayError]) -> list[type[errors.GatewayError]]:
    return [of, *(one for sub in of.__subclasses__() for one in kinds(sub))]


def test_every_error_code_is_on_the_page_with_a_code_of_its_own() -> None:
    concrete = [one for one in kinds(errors.GatewayError) if one.__name__ not in ABSTRACT]
    codes = [one.code for one in concrete if one is not errors.GatewayRefused]
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if f"`{code}`" not in API] == []


def test_every_way_an_input_can_be_wrong_is_on_the_page() -> None:
    every = [one for one in vars(model_errors).values() if isinstance(one, type)]
    codes = [one.code for one in every if issubclass(one, InputError) and one is not InputError]
    assert len(codes) > 5
    assert [code for code in codes if f"`{code}`" not in API] == []


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"-- (\w+)", errors.__doc__)
    assert sorted(drawn) == sorted(one.__name__ for one in kinds(errors.GatewayError)[1:])


def test_every_setting_is_on_the_page() -> None:
    keys = [field.name for field in structs.fields(Settings)]
    for name, table in (
        ("tls", TlsSettings),
        ("broker", BrokerSettings),
        ("inference", InferenceSettings),
    ):
        keys.remove(name)
        keys += [f"{name}.{field.name}" for field in structs.fields(table)]
    assert [key for key in keys if f"`{key}`" not in CLI] == []


def test_every_metric_is_on_the_page() -> None:
    told = re.findall(r"^# TYPE (\w+) (?!gauge)", Metrics().page().decode(), re.MULTILINE)
    assert told
    assert [name for name in told if f"`{name}`" not in CLI] == []


def verbs(parser: argparse.ArgumentParser, before: str = "") -> list[tuple[str, list[str]]]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                found += verbs(sub, f"{before} {name}".strip())
    flags = [word for action in parser._actions for word in action.option_strings]
    return found or [(before, [flag for flag in flags if flag.startswith("--")])]


def test_every_verb_and_every_flag_is_on_the_page() -> None:
    for verb, flags in verbs(cli._parser()):
        assert f"`{verb}`" in CLI, verb
        assert [flag for flag in flags if flag != "--help" and flag not in CLI] == [], verb


def paths(routes: Sequence[BaseRoute]) -> set[str]:
    """Every path, those of included routers too (FastAPI keeps them as they were included)."""
    found: set[str] = set()
    for route in routes:
        if isinstance(inner := getattr(route, "original_router", None), APIRouter):
            found |= paths(inner.routes)
        elif isinstance(route, APIRoute | Route):
            found.add(route.path)
    return found


def test_every_route_is_on_the_page(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path, broker=BrokerSettings(kind="none")))
    found = paths(app.routes)
    assert {"/v1/up", "/v1/admin/desired", "/v1/fleet/events", "/metrics"} <= found
    pages = {"/", "/devices/{name}", "/static/{path:path}"}
    assert [path for path in sorted(found - pages) if path not in API] == []
