"""Errors of the agent.

AgentError
|-- BadOrder          the worker was started with settings it cannot read
|-- BadRequest        what came through the local socket is no request
|-- Overloaded        the device could not have answered in time, so it did not begin
|-- DeadlineExceeded  the model had produced nothing when the caller's time was over
|-- SupervisorGone    the worker's supervisor no longer listens; the worker ends
|-- WorkerFailed      a worker did not come to serve
|   `-- PackageDoesNotRun  and says that its package is why; `code` is its own word for it
|-- NotEnrolled       the data folder does not say which device this is and where its gateway is
|-- AlreadyEnrolled   it says so already, and something else than is asked for now
|-- GatewayUnreachable  nobody answers at the address to enrol with
|-- AgentAlreadyRunning  another agent holds this data or run folder
|-- DataFolderUnusable  it cannot be made, read or written
|-- SourceBroken      a source of inputs cannot go on; it begins again after a while
|   `-- SourceUnfit       its settings do not go with what the package takes
`-- SocketTaken       something that is no socket of ours lies where one should

Every class carries a stable `code`; messages say what happened, to what, and what to do next.
What is wrong with an input or a package is `models.errors`; with the link, `sync.errors`.
"""


class AgentError(Exception):
    """Base of everything the agent raises on purpose."""

    code = "agent_error"


class BadOrder(AgentError):
    code = "bad_order"


class BadRequest(AgentError):
    code = "bad_request"


class Overloaded(AgentError):
    code = "overloaded"


class DeadlineExceeded(AgentError):
    code = "deadline_exceeded"


class SupervisorGone(AgentError):
    code = "supervisor_gone"


class WorkerFailed(AgentError):
    code = "worker_failed"


class PackageDoesNotRun(WorkerFailed):
    code = "package_does_not_run"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class NotEnrolled(AgentError):
    code = "not_enrolled"


class AlreadyEnrolled(AgentError):
    code = "already_enrolled"


class GatewayUnreachable(AgentError):
    code = "gateway_unreachable"


class AgentAlreadyRunning(AgentError):
    code = "agent_already_running"


class DataFolderUnusable(AgentError):
    code = "data_folder_unusable"


class SocketTaken(AgentError):
    code = "socket_taken"


class SourceBroken(AgentError):
    code = "source_broken"


class SourceUnfit(SourceBroken):
    code = "source_unfit"
