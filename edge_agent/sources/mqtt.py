"""Answers what sensors publish on a broker: windows over their samples, or each message whole.

1. Each topic is a sensor of its own, also where the settings name many by a wildcard.
2. A task that takes arrays gets windows of the package's own shape; one that takes encoded files,
   texts or records gets every message as it is.
3. The connection makes itself again; what it missed is a hole, and no window spans one.
4. An input's request id is made of its topic, its time and its content.
"""

import asyncio
import hashlib
import logging
import math
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np

from edge_agent.errors import SourceBroken, SourceUnfit
from edge_agent.sdk.messages import Infer
from edge_agent.sdk.wire import MAX_BODY
from edge_agent.sources import answers, likeness, samples
from edge_agent.sources.arrays import RAW, Array, Kind, Unreadable
from edge_agent.sources.base import DEADLINE_MS, Answering, outcome_of
from edge_agent.sources.intake import Input, Intake, Outcome
from edge_agent.sources.samples import Format
from edge_agent.sources.window import Left, Window, Windows
from edge_agent.workplace import MqttSettings
from sync.clock import Clock
from sync.transport.mqtt import MqttPeer

CLIENT = "mqtt"
MOST_TOPICS = 1000
"""Sensors remembered at once; the one that was silent longest is forgotten."""

log = logging.getLogger(__name__)


class MqttSource:
    """Subscribes to one topic, or to many by a wildcard."""

    def __init__(
        self, settings: MqttSettings, *, data: Path, answer: Answering, kind: Kind, clock: Clock
    ) -> None:
        self._settings = settings
        self._data = data
        self._answer = answer
        self._kind = kind
        self._clock = clock
        self._peer: MqttPeer | None = None
        self._sensors: OrderedDict[str, Windows] = OrderedDict()

    @property
    def trouble(self) -> str:
        peer = self._peer
        return "" if peer is None or peer.connected else f"{peer.trouble.code}: {peer.trouble}"

    async def run(self, intake: Intake) -> None:
        settings = self._settings
        if settings.answers and answers.matches(settings.topic, settings.answers):
            raise SourceUnfit(
                f"answers on {settings.answers} would be taken for inputs, since `topic` is"
                f" {settings.topic}; publish them on another topic"
            )
        size, how = (0, None) if self._kind.dtype in RAW else _windows_of(settings, self._kind)
        self._sensors.clear()
        peer = self._peer = MqttPeer(
            settings.host,
            settings.port,
            username=settings.user or None,
            password=_password(settings, self._data),
            subscriptions=[settings.topic],
        )

        def heard(topic: str, payload: bytes) -> None:
            if how is None:
                self._whole(intake, topic, payload)
            else:
                self._sampled(intake, topic, payload, how, size)

        await peer.start(heard, partial(self._broken, intake))
        try:
            await asyncio.Event().wait()
        finally:
            self._broken(intake)
            await peer.close()
            self._peer = None

    def _whole(self, intake: Intake, topic: str, payload: bytes) -> None:
        at = self._clock.wall()
        if not 0 < len(payload) <= MAX_BODY:
            log.warning("mqtt_source.unreadable topic=%s bytes=%d", topic, len(payload))
            intake.left_out(_name(topic, at), "unreadable")
            return
        self._offer(intake, topic, at, Array(self._kind.dtype, (len(payload),), payload))

    def _sampled(self, intake: Intake, topic: str, payload: bytes, how: Format, size: int) -> None:
        windows = self._sensor(topic, size)
        try:
            found = samples.read(payload, how)
        except Unreadable as error:
            log.warning("mqtt_source.unreadable topic=%s why=%s", topic, error)
            for left in windows.broken():
                self._deal_with(intake, topic, left)
            intake.left_out(_name(topic, self._clock.wall()), "unreadable")
            return
        for sample in found:
            for one in windows.add(sample):
                self._deal_with(intake, topic, one)

    def _deal_with(self, intake: Intake, topic: str, one: Window | Left) -> None:
        at = one.first if self._settings.time else self._clock.wall()
        if isinstance(one, Left):
            intake.left_out(_name(topic, at), one.reason)
            return
        array = np.asarray(one.rows, np.float32).astype(self._kind.dtype).reshape(self._kind.shape)
        self._offer(intake, topic, at, Array(array.dtype.name, array.shape, array.tobytes()))

    def _offer(self, intake: Intake, topic: str, at: float, array: Array) -> None:
        signature = None
        if intake.compares:
            signature = likeness.signature(array.dtype, array.shape, array.data)
        told = hashlib.sha256(f"{topic}\0{at!r}\0".encode() + array.data).hexdigest()
        infer = Infer(f"mqtt-{told[:24]}", CLIENT, DEADLINE_MS, array.dtype, array.shape)
        name = _name(topic, at)
        intake.offer(Input(name, partial(self._ask, name, infer, array.data), signature))

    async def _ask(self, name: str, infer: Infer, data: bytes) -> Outcome:
        reply = await self._answer(infer, data)
        outcome = outcome_of(reply)
        if self._settings.answers and self._peer is not None:
            self._peer.publish(self._settings.answers, answers.told(name, reply))
        if outcome != "answered":
            log.warning("mqtt_source.not_answered id=%s said=%s", infer.id, reply)
        return outcome

    def _broken(self, intake: Intake) -> None:
        """The connection is new, or ends: whatever was collected ends here."""
        for topic, windows in self._sensors.items():
            for left in windows.broken():
                self._deal_with(intake, topic, left)

    def _sensor(self, topic: str, size: int) -> Windows:
        windows = self._sensors.pop(topic, None)
        if windows is None:
            stride = self._settings.stride or size
            windows = Windows(size, stride, self._settings.gap_s)
            if len(self._sensors) >= MOST_TOPICS:
                self._sensors.popitem(last=False)
        self._sensors[topic] = windows
        return windows


def _windows_of(settings: MqttSettings, kind: Kind) -> tuple[int, Format]:
    """The samples in a window, and how to read them. Raises `SourceUnfit`."""
    channels = kind.shape[-1] if len(kind.shape) > 1 else 1
    size = settings.window or math.prod(kind.shape) // max(1, channels)
    if size < 1 or size * channels != math.prod(kind.shape):
        raise SourceUnfit(
            f"windows of {size} samples with {channels} values are not what the package takes:"
            f" {kind.dtype} of shape {list(kind.shape)}; leave out `window`, or set it to"
            f" {math.prod(kind.shape) // max(1, channels)}"
        )
    named = [field for field in settings.fields if field != settings.time]
    if named and len(named) != channels:
        raise SourceUnfit(
            f"`fields` names {len(named)} values, and the package takes {channels} in each"
            " sample; name as many"
        )
    if settings.time and settings.format == "raw":
        raise SourceUnfit("messages of raw numbers hold no time; leave out `time`, or send csv")
    if settings.time and settings.format == "csv" and settings.time not in settings.fields:
        raise SourceUnfit(f"`fields` names no column {settings.time!r}, which `time` asks for")
    how = Format(
        channels=channels,
        name=settings.format,
        fields=settings.fields,
        time=settings.time,
        time_unit=settings.time_unit,
    )
    return size, how


def _password(settings: MqttSettings, data: Path) -> str | None:
    if not settings.password_file:
        return None
    path = data / Path(settings.password_file).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceBroken(f"the password in {path} cannot be read: {error}") from error


def _name(topic: str, at: float) -> str:
    return f"{topic[:200]}@{at:.6f}"
