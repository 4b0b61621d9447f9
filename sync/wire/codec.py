"""Messages to bytes and back, with every bound a receiver needs.

A message is one version byte and a msgpack body. Records travel packed: a msgpack array of
records, zstd level 3. Unpacking never produces more than `MAX_UNPACKED` bytes, whatever the frame
claims.
"""

from collections.abc import Sequence

import msgspec
import zstandard

from sync.errors import MalformedMessage, MessageTooLarge, UnknownTag
from sync.wire import v1

VERSION = 1
MAX_MESSAGE = 8 << 20
MAX_UNPACKED = 4 << 20
MAX_RECORDS = 10_000

_encoder = msgspec.msgpack.Encoder()
_up: msgspec.msgpack.Decoder[v1.Up] = msgspec.msgpack.Decoder(v1.Up)
_down: msgspec.msgpack.Decoder[v1.Down] = msgspec.msgpack.Decoder(v1.Down)
_raw_records = msgspec.msgpack.Decoder(list[msgspec.Raw])
_record: msgspec.msgpack.Decoder[v1.Record] = msgspec.msgpack.Decoder(v1.Record)
_tag = msgspec.msgpack.Decoder(list[msgspec.Raw])
_text = msgspec.msgpack.Decoder(str)
# msgspec stops at deep nesting with the interpreter's own error.
_UNREADABLE = (msgspec.DecodeError, RecursionError)
_UP_TAGS = frozenset({"beat", "batch", "losses", "escalation"})
_DOWN_TAGS = frozenset({"beat_reply", "batch_ack", "loss_ack", "escalated", "refused", "notice"})
_RECORD_TAGS = frozenset({"answered", "revised", "skipped", "feedback", "alarm", "health"})


def encode(message: v1.Up | v1.Down) -> bytes:
    """The bytes of one message."""
    return bytes([VERSION]) + _encoder.encode(message)


def decode_up(data: bytes) -> v1.Up:
    """What a device said. Raises `MalformedMessage`, `UnknownTag`, `MessageTooLarge`."""
    body = _body(data)
    try:
        return _up.decode(body)
    except _UNREADABLE as error:
        raise _reading_error(body, _UP_TAGS, error) from error


def decode_down(data: bytes) -> v1.Down:
    """What the gateway said. Raises as `decode_up` does."""
    body = _body(data)
    try:
        return _down.decode(body)
    except _UNREADABLE as error:
        raise _reading_error(body, _DOWN_TAGS, error) from error


def encode_record(record: v1.Record) -> bytes:
    """One record as it crosses the pipe from worker to supervisor."""
    return _encoder.encode(record)


def decode_record(data: bytes | msgspec.Raw) -> v1.Record:
    """One record. Raises `MalformedMessage`, `UnknownTag`."""
    try:
        return _record.decode(data)
    except _UNREADABLE as error:
        raise _reading_error(bytes(data), _RECORD_TAGS, error) from error


def pack_records(records: Sequence[v1.Record]) -> bytes:
    """The body of a batch."""
    packer = zstandard.ZstdCompressor(level=3, write_checksum=True)
    return packer.compress(_encoder.encode(list(records)))


def unpack_records(body: bytes) -> list[v1.Record]:
    """The records of a batch. Raises `MalformedMessage`, `UnknownTag`, `MessageTooLarge`.

    One unknown record refuses the whole batch: the gateway keeps it as a dead letter, so a newer
    gateway can still count it.
    """
    try:
        size = zstandard.frame_content_size(body)
        if size > MAX_UNPACKED:
            raise MessageTooLarge(
                f"batch body unpacks to {size} bytes, over the limit of {MAX_UNPACKED}; "
                "send smaller batches"
            )
        plain = zstandard.ZstdDecompressor().decompress(
            body, max_output_size=MAX_UNPACKED, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise MalformedMessage(
            f"batch body is not a whole zstd frame within bounds: {error}"
        ) from error
    # Before decoding: four million one-byte "records" would cost a hundred times their size.
    if _array_length(plain) > MAX_RECORDS:
        raise MessageTooLarge(f"batch holds more records than the limit of {MAX_RECORDS}")
    try:
        raw = _raw_records.decode(plain)
    except _UNREADABLE as error:
        raise MalformedMessage(f"batch body is not a list of records: {error}") from error
    return [decode_record(item) for item in raw]


def _body(data: bytes) -> memoryview:
    if len(data) > MAX_MESSAGE:
        raise MessageTooLarge(f"message of {len(data)} bytes is over the limit of {MAX_MESSAGE}")
    if not data or data[0] != VERSION:
        found = data[0] if data else "nothing"
        raise UnknownTag(
            f"message version {found} is unknown here (expected {VERSION}); update this side"
        )
    return memoryview(data)[1:]


def _array_length(data: bytes) -> int:
    """What the head of a msgpack array claims; 0 for anything else, which decoding will name."""
    match data[:1]:
        case b"\xdc":
            return int.from_bytes(data[1:3], "big")
        case b"\xdd":
            return int.from_bytes(data[1:5], "big")
        case _:
            return 0


def _reading_error(
    body: bytes | memoryview, known: frozenset[str], error: Exception
) -> MalformedMessage | UnknownTag:
    try:
        tag = _text.decode(_tag.decode(body)[0])
    except (*_UNREADABLE, IndexError):
        return MalformedMessage(f"not a message of this protocol: {error}")
    if tag not in known:
        return UnknownTag(f"tag {tag!r} is unknown to this version; update this side to read it")
    return MalformedMessage(f"message {tag!r} does not have its fields: {error}")
