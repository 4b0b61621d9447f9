"""What a status says is wrong, and what to do: the first lines of `longstop-agent status`."""

from collections.abc import Iterator

from msgspec import Struct

from edge_agent.control.messages import StatusReport, TaskReport

LONG_AWAY_S = 300.0


class Trouble(Struct, frozen=True):
    """One thing that is not as it should be."""

    what: str
    do: str


def troubles(status: StatusReport) -> Iterator[Trouble]:
    """Worst first: what answers nobody, what answers worse, what only waits."""
    for task in status.tasks:
        yield from _task(task)
    if status.level != "normal":
        what = {
            "spare": "audits are rarer and the backlog waits",
            "hot": "sources are slowed down as well",
            "refusing": "new inputs are refused",
        }.get(status.level, "")
        yield Trouble(
            f"the device spares itself ({status.level}: {status.level_why}): {what}",
            "cool it, or take other work off it; the limits stand under [limits]",
        )
    if status.usage is not None and status.usage.over:
        over = ", ".join(status.usage.over)
        yield Trouble(
            f"over its budget of {over}",
            "nothing, if the budget is meant; see how-to/hold-a-device-to-budgets",
        )
    if status.local_mqtt:
        yield Trouble(
            f"programs that ask over MQTT are not heard: {status.local_mqtt}",
            "start the broker, or correct local_mqtt.* in agent.toml",
        )
    yield from _link(status)


def _task(task: TaskReport) -> Iterator[Trouble]:
    if task.state == "failed":
        yield Trouble(
            f"{task.task} answers nobody: its worker does not come up",
            "read the agent's log for worker.failed, then longstop-agent doctor",
        )
    elif task.uncertified is not None:
        yield Trouble(
            f"{task.task} carries no promise here: {task.uncertified}",
            "calibrate the package for this device (longstop-models calibrate)",
        )


def _link(status: StatusReport) -> Iterator[Trouble]:
    if not status.gateway or status.connected:
        return
    if status.turned_away is not None:
        yield Trouble(
            f"the gateway turns this device away: {status.turned_away}",
            "enrol again with a new line of `longstop-gateway device add NAME`",
        )
        return
    last = status.started if status.last_contact is None else status.last_contact
    if status.now - last > LONG_AWAY_S:
        yield Trouble(
            "no word from the gateway for a while; hard inputs are answered here alone",
            "longstop-agent doctor says what is between",
        )
