"""Errors a caller of the SDK may meet.

LongstopError
|-- DeadlineExceeded         nothing came back in time; the only way a valid request fails
|-- Overloaded               a named refusal: the device could not have answered in time
|-- InvalidInput             this input can never be answered; the next one may be fine
|   |-- WrongDtype
|   |-- WrongShape
|   |-- EmptyInput
|   |-- NotFinite            NaN or an infinity in a float input
|   |-- InputTooLarge
|   |-- UndecodableInput     a picture, sound, text or record that cannot be read as one
|   |   `-- PictureTooLarge  more pixels than the task decodes
|   |-- WrongSampleRate      a sound at another rate than the task was made for
|   |-- FieldMissing         a record without a field the task needs
|   |-- FieldInvalid         a field of another type, or a value that cannot be used
|   |-- UnknownCategory      a category the task does not know
|   `-- UnsupportedInput     an object the SDK cannot send
|-- BadArgument              an argument of the call itself; also a ValueError
|-- UnknownTask              the device does not serve this task
|-- TaskRequired             the device serves none, or several: name one
|-- AgentUnavailable         no agent listens where the SDK looks
|-- SocketPathTooLong        the run folder's name leaves no room for a socket
|-- InferenceFailed          the model broke on the device
|-- ProtocolMismatch         agent and SDK do not understand each other
`-- ClientClosed

Every class carries a stable `code`; messages say what happened, to what, and what to do next.
A code this version does not know arrives as a plain `LongstopError` with that `code`.
"""


class LongstopError(Exception):
    """Base of everything the SDK raises on purpose."""

    code = "longstop_error"


class DeadlineExceeded(LongstopError):
    code = "deadline_exceeded"


class Overloaded(LongstopError):
    code = "overloaded"


class InvalidInput(LongstopError):
    code = "input_invalid"


class WrongDtype(InvalidInput):
    code = "wrong_dtype"


class WrongShape(InvalidInput):
    code = "wrong_shape"


class EmptyInput(InvalidInput):
    code = "empty_input"


class NotFinite(InvalidInput):
    code = "not_finite"


class InputTooLarge(InvalidInput):
    code = "input_too_large"


class UndecodableInput(InvalidInput):
    code = "undecodable_input"


class PictureTooLarge(UndecodableInput):
    code = "picture_too_large"


class WrongSampleRate(InvalidInput):
    code = "wrong_sample_rate"


class FieldMissing(InvalidInput):
    code = "field_missing"


class FieldInvalid(InvalidInput):
    code = "field_invalid"


class UnknownCategory(InvalidInput):
    code = "unknown_category"


class UnsupportedInput(InvalidInput):
    code = "unsupported_input"


class BadArgument(LongstopError, ValueError):
    code = "bad_argument"


class UnknownTask(LongstopError):
    code = "unknown_task"


class TaskRequired(LongstopError):
    code = "task_required"


class AgentUnavailable(LongstopError):
    code = "agent_unavailable"


class SocketPathTooLong(LongstopError):
    code = "socket_path_too_long"


class InferenceFailed(LongstopError):
    code = "runtime_failed"


class ProtocolMismatch(LongstopError):
    code = "protocol_mismatch"


class ClientClosed(LongstopError):
    code = "client_closed"


_BY_CODE: dict[str, type[LongstopError]] = {
    kind.code: kind
    for kind in (
        DeadlineExceeded,
        Overloaded,
        InvalidInput,
        WrongDtype,
        WrongShape,
        EmptyInput,
        NotFinite,
        InputTooLarge,
        UndecodableInput,
        PictureTooLarge,
        WrongSampleRate,
        FieldMissing,
        FieldInvalid,
        UnknownCategory,
        UnknownTask,
        InferenceFailed,
        ProtocolMismatch,
    )
}


def error_of(code: str, message: str) -> LongstopError:
    """The same-named error for what the agent refused."""
    kind = _BY_CODE.get(code)
    if kind is not None:
        return kind(message)
    error = LongstopError(message)
    error.code = code
    return error
