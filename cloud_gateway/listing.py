"""Which devices a list holds, in which order, and which stretch of it is shown. Pure.

1. Every list of devices, on the page and in the API, is made here, so a count made with `matching`
   is the length of the list its link opens.
2. What is unknown sorts last, whichever way the rest runs; equal devices stand by name.
3. A name matches by any part of it, upper and lower case alike; all else matches whole.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Struct, structs

from cloud_gateway.errors import BadRequest
from cloud_gateway.facts import STATES, DeviceFacts, Mark, State

Sort = Literal["name", "state", "contact", "task", "escalated", "pending", "waiting", "refusals"]
Key = tuple[float, str]
T = TypeVar("T", bound=Struct)
Text = Annotated[str, Meta(max_length=200)]


class Query(Struct, frozen=True, forbid_unknown_fields=True):
    """A list of devices. Empty text and None ask for nothing."""

    name: Text = ""
    state: State | None = None
    task: Text = ""
    version: Text = ""
    mark: Mark | None = None
    sort: Sort = "name"
    descending: bool = False
    offset: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 100

    @property
    def filtered(self) -> bool:
        return bool(self.name or self.state or self.task or self.version or self.mark)

    def link(self, **changed: object) -> str:
        """This query as the text after `?`, without what is as it would be anyway."""
        query = structs.replace(self, **changed)
        plain = Query()
        return urlencode(
            {
                field: str(value).lower() if isinstance(value, bool) else value
                for field, value in structs.asdict(query).items()
                if value != getattr(plain, field)
            }
        )


class Chart(Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of time, of the fleet or of one task or device."""

    minutes: Annotated[int, Meta(ge=1, le=24 * 60)] = 60
    task: Text = ""
    device: Text = ""


class Window(Struct, frozen=True):
    """The stretch of a list that was asked for, and how long the whole list is."""

    total: int
    offset: int
    devices: tuple[DeviceFacts, ...]


def read(shape: type[T], parameters: Mapping[str, str]) -> T:
    """What a request's parameters ask for; an empty one asks for nothing. Raises `BadRequest`."""
    given = {key: value for key, value in parameters.items() if value}
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(shape.__struct_fields__)
        raise BadRequest(f"{error}; the parameters known here are {known}") from error


def select(devices: Sequence[DeviceFacts], query: Query) -> Window:
    """The stretch of `devices` (given by name) that `query` asks for."""
    found = matching(devices, query)
    if query.sort != "name" or query.descending:
        found = _ordered(found, query)
    return Window(
        total=len(found),
        offset=query.offset,
        devices=tuple(found[query.offset : query.offset + query.limit]),
    )


def matching(devices: Sequence[DeviceFacts], query: Query) -> list[DeviceFacts]:
    """All of `devices` that are in the list, in the order they came."""
    if not query.filtered:
        return list(devices)
    part = query.name.casefold()
    return [
        device
        for device in devices
        if part in device.name.casefold()
        and query.state in (None, device.state)
        and (not (query.task or query.version) or _runs(device, query))
        and (query.mark is None or query.mark in device.marks)
    ]


def _runs(device: DeviceFacts, query: Query) -> bool:
    """One task of the device answers to both, so `apparel` at `2.0.0` means just that."""
    return any(
        query.task in ("", task.task) and query.version in ("", task.version)
        for task in device.tasks
    )


def _ordered(devices: list[DeviceFacts], query: Query) -> list[DeviceFacts]:
    key = _KEYS[query.sort]
    known: list[tuple[Key, DeviceFacts]] = []
    unknown: list[DeviceFacts] = []
    for device in devices:
        value = key(device)
        if value is None:
            unknown.append(device)
        else:
            known.append((value, device))
    # Python's sort is stable, reversed too: names stay in order under equal keys.
    known.sort(key=lambda pair: pair[0], reverse=query.descending)
    return [device for _, device in known] + unknown


def _number(value: float | None) -> Key | None:
    return None if value is None else (value, "")


_KEYS: dict[Sort, Callable[[DeviceFacts], Key | None]] = {
    "name": lambda device: (0, device.name),
    "state": lambda device: (STATES.index(device.state), ""),
    "contact": lambda device: _number(device.contact_at),
    "task": lambda device: (0, device.tasks[0].task) if device.tasks else None,
    "escalated": lambda device: _number(device.answers.escalated if device.answers else None),
    "pending": lambda device: _number(device.pending),
    "waiting": lambda device: _number(device.escalations_waiting),
    "refusals": lambda device: (len(device.refusals), ""),
}
