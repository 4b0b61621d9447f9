"""Brings the packages a device was delivered with into its store, at every start.

They lie in folders of the machine, put there with the agent and trusted as the agent is. A folder
that holds no package, or one of another task, is said to the log and left out: a device does not
stand still for what it may never need.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from edge_agent.errors import BadRequest
from edge_agent.update import job
from edge_agent.update.activation import Installed
from edge_agent.update.local import local_package

log = logging.getLogger(__name__)

Bring = Callable[[str, str, job.FromFolder], Awaitable[job.Outcome]]
"""Task, version and where from, to what came of it."""


async def bring_all(
    folders: Mapping[str, str], bring: Bring, found: Callable[[str, Installed], None]
) -> None:
    """Say `found` of each task's package once it is on the disk, whole."""
    for task, folder in sorted(folders.items()):
        try:
            package = local_package(Path(folder))
        except BadRequest as error:
            log.error("factory.left_out task=%s why=%s", task, error)
            continue
        if package.task != task:
            log.error("factory.left_out task=%s why=it_is_of_task_%s", task, package.task)
            continue
        match await bring(task, package.version, job.FromFolder(str(package.folder))):
            case job.Fetched(version, digest):
                found(task, Installed(version, digest))
            case job.Refused(code, reason) | job.Failed(code, reason):
                log.error("factory.left_out task=%s code=%s why=%s", task, code, reason)
