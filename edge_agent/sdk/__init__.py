"""Ask a Longstop device for answers. Standard library only.

from edge_agent.sdk import Client

with Client(task="apparel") as client:
    answer = client.infer(image, deadline_ms=300)
"""

from edge_agent.sdk.aio import AsyncClient
from edge_agent.sdk.answer import Answer, AnswerTimings, Revision, Status, TaskStatus
from edge_agent.sdk.client import Client
from edge_agent.sdk.errors import (
    AgentUnavailable,
    BadArgument,
    ClientClosed,
    DeadlineExceeded,
    EmptyInput,
    FieldInvalid,
    FieldMissing,
    InferenceFailed,
    InputTooLarge,
    InvalidInput,
    LongstopError,
    NotFinite,
    Overloaded,
    PictureTooLarge,
    ProtocolMismatch,
    SocketPathTooLong,
    TaskRequired,
    UndecodableInput,
    UnknownCategory,
    UnknownTask,
    UnsupportedInput,
    WrongDtype,
    WrongSampleRate,
    WrongShape,
)

__all__ = [
    "AgentUnavailable",
    "Answer",
    "AnswerTimings",
    "AsyncClient",
    "BadArgument",
    "Client",
    "ClientClosed",
    "DeadlineExceeded",
    "EmptyInput",
    "FieldInvalid",
    "FieldMissing",
    "InferenceFailed",
    "InputTooLarge",
    "InvalidInput",
    "LongstopError",
    "NotFinite",
    "Overloaded",
    "PictureTooLarge",
    "ProtocolMismatch",
    "Revision",
    "SocketPathTooLong",
    "Status",
    "TaskRequired",
    "TaskStatus",
    "UndecodableInput",
    "UnknownCategory",
    "UnknownTask",
    "UnsupportedInput",
    "WrongDtype",
    "WrongSampleRate",
    "WrongShape",
]
