"""The proxy's meters tell an escalation from the rest by the bytes alone."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sim.meter import HttpMeter, MqttMeter, Tally, meter_for


def publish(topic: bytes, payload: bytes) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + payload
    size, length = len(body), b""
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return b"\x30" + length + body


def request(path: bytes, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0f\x00\x00"
ESCALATION = publish(b"v1/default/up/apparel-1/esc", b"x" * 900)
BEAT = publish(b"v1/default/up/apparel-1/rec", b"y" * 40)
INFER = request(b"/v2/models/apparel/infer", b"z" * 1000)
UP = request(b"/v1/up", b"w" * 50)


def test_the_first_byte_chooses_the_protocol() -> None:
    assert isinstance(meter_for(CONNECT, Tally()), MqttMeter)
    assert isinstance(meter_for(INFER, Tally()), HttpMeter)


@given(cuts=st.lists(st.integers(1, 4000), max_size=12))
def test_mqtt_is_counted_alike_however_it_is_cut_into_reads(cuts: list[int]) -> None:
    stream = CONNECT + BEAT + ESCALATION + BEAT + ESCALATION
    tally = Tally()
    feed_in_pieces(MqttMeter(tally), stream, cuts)
    assert tally == Tally(2, 2 * len(ESCALATION), len(CONNECT) + 2 * len(BEAT))


@given(cuts=st.lists(st.integers(1, 4000), max_size=12))
def test_http_is_counted_alike_however_it_is_cut_into_reads(cuts: list[int]) -> None:
    stream = UP + INFER + UP + INFER + b"GET /v1/packages HTTP/1.1\r\n\r\n"
    tally = Tally()
    feed_in_pieces(HttpMeter(tally), stream, cuts)
    assert tally.escalations == 2
    assert tally.escalation_bytes == 2 * len(INFER)
    assert tally.other_bytes == len(stream) - 2 * len(INFER)


def feed_in_pieces(meter: MqttMeter | HttpMeter, stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        meter.feed(stream[start:end])
