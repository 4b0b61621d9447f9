"""Errors of the gateway.

GatewayError
|-- AuthError
|   |-- Unauthorised          no token, or one nobody gave out
|   |-- TokenRevoked          the device was removed
|   |-- Forbidden             a good token for something else
|   `-- WrongDevice           a device speaking in another's name
|-- RequestError
|   |-- BadRequest            a body or a parameter that does not say what it should
|   |-- BodyTooLarge          over the limit; refused before it is read whole
|   |-- NotFound
|   |   |-- UnknownTask
|   |   |-- UnknownRelease
|   |   |-- UnknownDevice
|   |   `-- UnknownTable      features nobody fed
|   |-- Conflict
|   |   |-- DeviceExists
|   |   |-- VersionExists     the same version with other content
|   |   |-- BlobMissing       a release before its archives
|   |   `-- NoPublisherKey    nothing to check a signature against
|   |-- BadDeviceName
|   |-- BlobMismatch          what came does not have the name it was sent under
|   `-- BadRange
|-- BusyError                 try again later; the message says when
|   |-- StorageUnavailable    the database cannot be written now (full, read-only, damaged)
|   |-- DeadLettersFull       nothing unreadable is taken from this device until someone looks
|   |-- Overloaded            more waiting than can be answered in time
|   `-- ModelUnavailable      the task has a release, and its cloud model does not load
|-- AdminError                an admin command that failed
|   |-- GatewayUnreachable    no gateway answers where it should be
|   |-- GatewayRefused        it answered with a problem; `code` is the problem's
|   `-- BadKeyPlace           a signing key where it must not be
`-- StartError
    |-- DataInUse             another gateway holds this data folder
    |-- DataUnusable          the data folder cannot be made or written
    |-- PortTaken
    |-- BadIdentity           the files of TLS are no identity
    `-- BrokerFailed          the broker does not start

Every class carries a stable `code` and the HTTP `status` it has on the wire; messages say what
happened, to what, and what to do next.
"""


class GatewayError(Exception):
    """Base of everything the gateway raises on purpose."""

    code = "gateway_error"
    status = 500
    retry_after_s = 0.0


class AuthError(GatewayError):
    code = "auth_error"
    status = 401


class Unauthorised(AuthError):
    code = "unauthorised"


class TokenRevoked(AuthError):
    code = "token_revoked"


class Forbidden(AuthError):
    code = "forbidden"
    status = 403


class WrongDevice(AuthError):
    code = "wrong_device"
    status = 403


class RequestError(GatewayError):
    code = "request_error"
    status = 400


class BadRequest(RequestError):
    code = "bad_request"


class BodyTooLarge(RequestError):
    code = "body_too_large"
    status = 413


class NotFound(RequestError):
    code = "not_found"
    status = 404


class UnknownTask(NotFound):
    code = "unknown_task"


class UnknownRelease(NotFound):
    code = "unknown_release"


class UnknownDevice(NotFound):
    code = "unknown_device"


class UnknownTable(NotFound):
    code = "unknown_table"


class Conflict(RequestError):
    code = "conflict"
    status = 409


class DeviceExists(Conflict):
    code = "device_exists"


class VersionExists(Conflict):
    code = "version_exists"


class BlobMissing(Conflict):
    code = "blob_missing"


class NoPublisherKey(Conflict):
    code = "no_publisher_key"


class BadDeviceName(RequestError):
    code = "bad_device_name"


class BlobMismatch(RequestError):
    code = "blob_mismatch"


class BadRange(RequestError):
    code = "bad_range"
    status = 416


class BusyError(GatewayError):
    code = "busy"
    status = 503
    retry_after_s = 1.0


class StorageUnavailable(BusyError):
    code = "storage_unavailable"
    retry_after_s = 5.0


class DeadLettersFull(BusyError):
    code = "dead_letters_full"
    status = 507
    retry_after_s = 600.0


class Overloaded(BusyError):
    code = "overloaded"


class ModelUnavailable(BusyError):
    code = "model_unavailable"
    retry_after_s = 5.0


class StartError(GatewayError):
    code = "start_error"


class DataInUse(StartError):
    code = "data_in_use"


class DataUnusable(StartError):
    code = "data_folder_unusable"


class PortTaken(StartError):
    code = "port_taken"


class BadIdentity(StartError):
    code = "bad_identity"


class BrokerFailed(StartError):
    code = "broker_failed"


class AdminError(GatewayError):
    code = "admin_error"


class GatewayUnreachable(AdminError):
    code = "gateway_unreachable"


class GatewayRefused(AdminError):
    code = "gateway_refused"

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class BadKeyPlace(AdminError):
    code = "bad_key_place"
