"""Opens the source a task's settings name, in the worker that answers its inputs."""

from collections.abc import Callable
from pathlib import Path

from edge_agent.sdk.agent import LONGEST_POLL_S
from edge_agent.sources.admission import Policy
from edge_agent.sources.arrays import Kind
from edge_agent.sources.base import AT_ONCE, Answering, Source
from edge_agent.sources.late import Revisions
from edge_agent.sources.run import Skips, SourceRun
from edge_agent.workplace import (
    CameraSettings,
    FolderSource,
    MqttSettings,
    SourceRules,
    SourceSettings,
    SourceState,
)
from sync.clock import Clock
from sync.runner import Runner

KEPT = "sources"
"""Folder of the data folder: for each task a lock, and how far a film was answered."""


def open_source(
    settings: SourceSettings,
    *,
    task: str,
    data: str,
    run: str = "",
    kind: Kind,
    answer: Answering,
    records: Skips,
    runner: Runner,
    clock: Clock,
    tell: Callable[[SourceState], None],
) -> SourceRun:
    """The source, not running yet.

    Args:
        data: The device's data folder; empty for none.
        run: The folder of its sockets; empty where late answers cannot be asked for.
    """
    kept = Path(data, KEPT)
    source, name, policy = _opened(
        settings, Path(data), kind, answer, runner, clock, kept / f"{task}.json", task, run
    )
    return SourceRun(
        source,
        task=task,
        kind=name,
        policy=policy,
        records=records,
        clock=clock,
        tell=tell,
        lock=kept / f"{task}.lock" if data else None,
    )


def _opened(
    settings: SourceSettings,
    data: Path,
    kind: Kind,
    answer: Answering,
    runner: Runner,
    clock: Clock,
    progress: Path,
    task: str,
    run: str,
) -> tuple[Source, str, Policy]:
    match settings:
        case FolderSource():
            from edge_agent.sources.directory import CLIENT, DirectorySource
            from edge_agent.sources.late import client_of

            client = client_of(CLIENT, task)
            folder = DirectorySource(
                data / Path(settings.path).expanduser(),
                answers=data / Path(settings.answers).expanduser() if settings.answers else None,
                answer=answer,
                runner=runner,
                kind=kind,
                inotify=settings.inotify,
                look_s=settings.look_s,
                client=client,
                revisions=_revisions_of(task, client, run) if run else None,
            )
            return folder, CLIENT, _policy(settings)
        case MqttSettings():
            from edge_agent.sources.mqtt import CLIENT, MqttSource

            sensors = MqttSource(settings, data=data, answer=answer, kind=kind, clock=clock)
            return sensors, CLIENT, _policy(settings, live=True, counted=True)

        case CameraSettings():
            from edge_agent.sources.camera import CLIENT, CameraSource

            camera = CameraSource(
                settings,
                data=data,
                answer=answer,
                kind=kind,
                runner=runner,
                clock=clock,
                progress=progress,
            )
            return camera, CLIENT, _policy(settings, live=not settings.file, counted=True)


def _revisions_of(task: str, client: str, run: str) -> Revisions:
    from edge_agent.sdk import AsyncClient

    asking = AsyncClient(task, name=client, run=run)
    return lambda: asking.revisions(wait_s=LONGEST_POLL_S)


def _policy(rules: SourceRules, *, live: bool = False, counted: bool = False) -> Policy:
    return Policy(
        per_second=rules.per_second,
        burst=rules.burst,
        backlog=rules.backlog,
        at_once=AT_ONCE,
        same_below=rules.same_below,
        answer_every_s=rules.answer_every_s,
        live=live,
        counted=counted,
    )
