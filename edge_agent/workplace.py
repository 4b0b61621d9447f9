"""What a worker is given to work with, and what it says it works on.

Settings hold these, the supervisor passes them on, a worker uses them: so nothing here imports more
than msgspec, `models` included.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sync.transport.tls import TlsFiles


class SqliteTable(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sqlite"):
    """Features from a table of an SQLite file on the device."""

    path: Annotated[str, Meta(min_length=1)]
    """Of the file; a relative one lies in the data folder."""
    table: Annotated[str, Meta(min_length=1)]
    key: Annotated[str, Meta(min_length=1)]
    """The column that is looked up; unique, with an index."""
    updated: str = ""
    """A column with the seconds since 1970 at which a row was true; empty for none."""


class HttpTable(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="http"):
    """Features from the gateway this device is enrolled at."""

    path: Annotated[str, Meta(pattern=r"^/[^\s?#]*\Z")]
    """As in /v1/features/customers."""


class FeastView(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="feast"):
    """Features from a Feast feature store; needs the extra `feast`."""

    repository: Annotated[str, Meta(min_length=1)]
    """The folder with feature_store.yaml; a relative one lies in the data folder."""
    view: Annotated[str, Meta(min_length=1)]
    entity: Annotated[str, Meta(min_length=1)]
    """The join key that is looked up."""


FeatureTable = SqliteTable | HttpTable | FeastView


class SourceRules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every source is held to; 0 stands for no limit."""

    per_second: Annotated[float, Meta(ge=0)] = 0.0
    """Inputs answered per second at most."""
    burst: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Of them at once, after a quiet time."""
    backlog: Annotated[int, Meta(ge=1, le=1000)] = 8
    """Inputs that wait while others are answered."""
    same_below: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """An input that differs less from the last one admitted is skipped; 0 skips none."""
    answer_every_s: Annotated[float, Meta(ge=0)] = 60.0
    """So often one is answered however much it is like the last."""


class FolderSource(SourceRules, frozen=True, tag_field="kind", tag="directory"):
    """Inputs are the files that appear in a folder."""

    path: Annotated[str, Meta(min_length=1)]
    """A relative one lies in the data folder."""
    answers: str = ""
    """Folder of the answers; empty for the same one."""
    inotify: bool = True
    """Hear of files from the kernel; else, and where it cannot, look every half second."""
    look_s: Annotated[float, Meta(gt=0)] = 5.0
    """How often to look all the same: a network's file system tells of its own writers alone."""


class MqttSettings(SourceRules, frozen=True, tag_field="kind", tag="mqtt"):
    """Inputs are windows over what sensors publish on a broker."""

    host: Annotated[str, Meta(min_length=1)]
    topic: Annotated[str, Meta(min_length=1)]
    """May hold wildcards: each topic is a sensor of its own."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    user: str = ""
    password_file: str = ""
    """A relative one lies in the data folder."""
    format: Literal["json", "csv", "raw"] = "json"
    """Of the samples in a message; raw is float32, little-endian."""
    fields: tuple[str, ...] = ()
    """Of JSON objects, or the columns of arrays and lines: the values in the package's order."""
    time: str = ""
    """The field with the time of a sample; empty where there is none."""
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    window: Annotated[int, Meta(ge=0)] = 0
    """Samples in an input; 0 for what the package takes."""
    stride: Annotated[int, Meta(ge=0)] = 0
    """Samples from the beginning of one window to the next; 0 for a whole window."""
    gap_s: Annotated[float, Meta(ge=0)] = 0.0
    """A pause longer than this is a hole no window spans; 0: no pause is."""
    answers: str = ""
    """Topic on the same broker where each answer is published; empty for none."""


class LocalMqttSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The broker where programs of this device may ask."""

    host: str = ""
    """Empty for none."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    prefix: Annotated[str, Meta(pattern=r"^[^/+#$\x00][^+#\x00]{0,126}[^/+#\x00]\Z")] = "longstop"
    """Of every topic; devices on one broker have one each."""
    user: str = ""
    password_file: str = ""
    """A relative one lies in the data folder."""
    deadline_ms: Annotated[float, Meta(gt=0, le=30_000)] = 300.0
    """Of questions that name none."""


class CameraSettings(SourceRules, frozen=True, tag_field="kind", tag="camera"):
    """Inputs are frames of a camera or a video file; needs the extra `camera`."""

    device: Annotated[int, Meta(ge=0)] | None = None
    """The camera's number, as in /dev/video0."""
    file: str = ""
    """A video file instead; a relative one lies in the data folder."""
    fps: Annotated[float, Meta(gt=0)] = 1.0
    """Frames taken per second, of the film where it is one."""
    answers: str = ""
    """File to which each answer is added, a line of JSON; empty for none."""

    def __post_init__(self) -> None:
        if (self.device is None) == (not self.file):
            raise ValueError("name either `device`, a camera's number, or `file`, a video")


SourceSettings = FolderSource | MqttSettings | CameraSettings
"""Where inputs of a task come from when no program sends them."""


class SkippedFor(Struct, frozen=True):
    """Inputs a source left out for one reason."""

    reason: str
    count: int


class SourceState(Struct, frozen=True):
    """How a source does. Counts are since its worker started."""

    kind: str
    state: Literal["waiting", "running", "broken", "finished"]
    """Waiting: another worker of the task reads it still."""
    offered: int = 0
    answered: int = 0
    skipped: tuple[SkippedFor, ...] = ()
    last_input: float | None = None
    """Seconds since 1970."""
    error: str = ""
    """Why it broke last, or why nothing comes; empty once all is well again."""


def source_of(given: str | SourceSettings) -> SourceSettings:
    """A mere path is a folder."""
    return FolderSource(path=given) if isinstance(given, str) else given


class RuntimeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How models are to be run; `models.runtimes.wish.RuntimeWish` in the worker."""

    choose: bool = True
    """Measure what there is when a package is new here, and take the fastest that is fit."""
    provider: Annotated[str, Meta(pattern=r"^ *[a-z]+ *(, *[a-z]+ *)*\Z")] = "auto"
    """A name, several in order of preference (`cuda,cpu`), or `auto`."""
    precision: Literal["f32", "bf16", "f16"] = "f32"
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    """Of one model. Where it is 1 and the device has more than two cores, 2 are tried as well."""
    batch: Annotated[int, Meta(ge=1, le=256)] = 8
    """The most requests that share a run when several wait; 1 for never."""
    avoid: tuple[str, ...] = ()
    """Runtimes and providers never to be used (`openvino`, `cuda`); `*` for all but a model's own
    runtime on the processor."""


class PrivacySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What of an input may leave the process it came to."""

    fields: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    """Fields of records that never leave and are never written down; null stands in their place."""
    escalate: Literal["all", "features", "crops", "nothing"] = "all"
    """What a hard input may send: all of it, the fields named in `features`, what lies in the boxes
    the package's own detector found, or nothing."""
    features: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    """Fields of records that may leave, and no others, where `escalate` is `features`."""


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model said is remembered for inputs that come again."""

    ttl_s: Annotated[float, Meta(ge=0.0)] = 0.0
    """How long; 0 for not at all."""
    entries: Annotated[int, Meta(ge=1)] = 1024
    """The most for one task."""


class Workplace(Struct, frozen=True, forbid_unknown_fields=True):
    """The same for every worker of a device."""

    data: str
    """The device's data folder."""
    run: str = ""
    """The folder of its sockets."""
    gateway: str = ""
    token_file: str = ""
    """Both for features from the gateway alone."""
    tls: TlsFiles = TlsFiles()
    custom_steps: bool = False
    """Whether a package may run Python code of its own."""
    features: dict[str, FeatureTable] = {}
    """Sources by the name packages use."""
    runtime: RuntimeSettings = RuntimeSettings()
    cache: CacheSettings = CacheSettings()
    privacy: PrivacySettings = PrivacySettings()
    audit_share: float = 0.0
    """Of requests, whose answers are compared with the cloud's."""


class RiskReport(Struct, frozen=True):
    """How far the device's own answers can be trusted, for people."""

    mode: Literal["certified", "safe", "uncertified"]
    certificate: str
    why: str
    promised: float
    """What audits are held against."""
    low: float
    high: float
    """Where the live risk lies, by the audits so far."""
    audits: int
    losses: int
    waiting: int
    """Audits without an answer yet."""
    evidence: float
    """How near the alarm is, 0 to 1."""
    alarm_at: float | None
    labelled: int
    """Audits somebody gave the right label for."""
    wrong: int
    """Of those, answered here and wrong where the cloud was right."""
    advice: str | None
    """A shift of the scores, for what it is worth."""


class Given(Struct, frozen=True):
    """The input of a task: numpy's name of its type, or `bytes`, `text`, `record`."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class RunsOn(Struct, frozen=True):
    """What computes a package's answers here. Several models on different ones: comma between."""

    runtime: str
    provider: str
    precision: str
    why: str
    """Why these, with figures where there was something to measure."""
    edition: str = "main"
    """Which edition of the package it is."""
