"""Errors of the agent.

AgentError
|-- BadOrder          the worker was started with settings it cannot read
|-- BadRequest        what came through the local socket is no request
|-- Overloaded        the device could not have answered in time, so it did not begin
`-- SupervisorGone    the worker's supervisor no longer listens; the worker ends

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


class SupervisorGone(AgentError):
    code = "supervisor_gone"
