"""The demo's JSON object, key for key; what each key means stands in the README."""

import msgspec


class TaskFigures(msgspec.Struct, frozen=True):
    name: str
    inputs: int
    edge_accuracy: float
    cloud_accuracy: float
    system_accuracy: float
    escalated: float
    bytes_sent: int
    bytes_if_all_sent: int | None
    p50_ms_edge: float | None
    p99_ms_edge: float | None
    p50_ms_cloud: float | None
    p99_ms_cloud: float | None
    unanswered: int


class CutFigures(msgspec.Struct, frozen=True):
    seconds: float
    requests: int
    hard: int
    answered: int
    missed_deadline: int
    revised: int


class RecordFigures(msgspec.Struct, frozen=True):
    issued: int
    delivered: int
    lost: int
    pending: int


class UpdateFigures(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    from_: str
    to: str
    devices: int
    dropped_requests: int
    bad_signature_refused: int


class Figures(msgspec.Struct, frozen=True):
    """The demo's JSON object, key for key."""

    tasks: list[TaskFigures]
    cut: CutFigures
    records: RecordFigures
    update: UpdateFigures
    dashboard_url: str
    broker: str
    data: str
