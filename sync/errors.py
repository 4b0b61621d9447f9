"""Errors of the shared half.

SyncError
|-- LinkError                 the message did not get through, or nobody can tell
|   |-- LinkDown              there is no connection now
|   |   |-- LinkUnauthorised  the other side does not know this device, or its token
|   |   `-- LinkUntrusted     the other side's TLS identity cannot be believed, or it refused ours
|   `-- LinkTimeout           sent, and no reply in time: the other side may have acted on it
|-- WireError                 bytes that do not say what they should
|   |-- MalformedMessage
|   |-- UnknownTag            a message or record of a kind this version does not know
|   `-- MessageTooLarge       over the limit, packed or unpacked
|-- OutboxError
|   |-- OutboxBusy            another process holds this outbox
|   |-- OutboxFull            the byte budget is spent and nothing may be dropped
|   |-- OutboxDamaged         the database cannot be read
|   `-- OutboxUnavailable     the database cannot be opened now, or is of a later format
|-- TrustError
|   |-- BadSignature
|   `-- BadKey
`-- SettingsError             a key nobody knows, or a value of the wrong type, with its path

Every class carries a stable `code`; messages say what happened, to what, and what to do next.
"""


class SyncError(Exception):
    """Base of everything `sync` raises on purpose."""

    code = "sync_error"


class LinkError(SyncError):
    code = "link_error"


class LinkDown(LinkError):
    code = "link_down"


class LinkUnauthorised(LinkDown):
    code = "unauthorised"


class LinkUntrusted(LinkDown):
    code = "untrusted"


class LinkTimeout(LinkError):
    code = "link_timeout"


class WireError(SyncError):
    code = "wire_error"


class MalformedMessage(WireError):
    code = "malformed_message"


class UnknownTag(WireError):
    code = "unknown_tag"


class MessageTooLarge(WireError):
    code = "message_too_large"


class OutboxError(SyncError):
    code = "outbox_error"


class OutboxBusy(OutboxError):
    code = "outbox_busy"


class OutboxFull(OutboxError):
    code = "outbox_full"


class OutboxDamaged(OutboxError):
    code = "outbox_damaged"


class OutboxUnavailable(OutboxError):
    code = "outbox_unavailable"


class TrustError(SyncError):
    code = "trust_error"


class BadSignature(TrustError):
    code = "bad_signature"


class BadKey(TrustError):
    code = "bad_key"


class SettingsError(SyncError):
    code = "bad_settings"
