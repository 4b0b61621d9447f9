"""The Open Inference Protocol codec: golden bodies, both forms, all a body may get wrong."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import MalformedMessage, MessageTooLarge
from sync.wire import live, oip
from sync.wire.elements import ELEMENT_BYTES, pack_text, unpack_bytes
from sync.wire.v1 import Escalated, Escalation, Tensor

FLOATS = struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)

# As `tritonclient.http` writes them: header, then the raw tensors one after another.
TRITON_HEADER = (
    b'{"id":"r-1","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":'
    b'{"binary_data_size":16}},{"name":"who","shape":[2],"datatype":"BYTES","parameters":'
    b'{"binary_data_size":14}}],"outputs":[{"name":"y","parameters":{"binary_data":true}},'
    b'{"name":"z","parameters":{"binary_data":false}}],"parameters":{"timeout":250000}}'
)
TRITON_BODY = (
    TRITON_HEADER
    + bytes.fromhex("0000803f000000400000404000008040")
    + bytes.fromhex("03000000616e6e03000000626f62")
)


def test_a_body_as_tritonclient_writes_it_is_read() -> None:
    request = oip.decode_request(TRITON_BODY, len(TRITON_HEADER))
    assert request == oip.OipRequest(
        id="r-1",
        inputs=(
            Tensor("x", "FP32", (1, 4), FLOATS),
            Tensor("who", "BYTES", (2,), b"\x03\0\0\0ann\x03\0\0\0bob"),
        ),
        parameters={"timeout": 250000},
        outputs=(oip.WantedOutput("y", binary=True), oip.WantedOutput("z", binary=False)),
    )
    assert request.wants_binary("y")
    assert not request.wants_binary("z")


def test_our_request_is_laid_out_as_tritonclient_reads_it() -> None:
    request = oip.OipRequest(id="r-1", inputs=(Tensor("x", "UINT8", (3,), b"\1\2\3"),))
    header = (
        b'{"inputs":[{"name":"x","datatype":"UINT8","shape":[3],'
        b'"parameters":{"binary_data_size":3}}],"id":"r-1"}'
    )
    assert oip.encode_request(request) == oip.Encoded(header + b"\1\2\3", len(header))
    assert oip.encode_request(request, binary=False) == oip.Encoded(
        b'{"inputs":[{"name":"x","datatype":"UINT8","shape":[3],"data":[1,2,3]}],"id":"r-1"}', None
    )


def test_our_response_mixes_both_forms_as_the_caller_asked() -> None:
    response = oip.OipResponse(
        model_name="apparel",
        model_version="1.2.0",
        id="r-1",
        outputs=(
            Tensor("label", "BYTES", (1,), pack_text(["coat"])),
            Tensor("scores", "FP32", (2,), struct.pack("<2f", 0.25, 0.75)),
        ),
    )
    encoded = oip.encode_response(response, binary={"scores"})
    assert encoded.body == (
        b'{"model_name":"apparel","outputs":[{"name":"label","datatype":"BYTES","shape":[1],'
        b'"data":["coat"]},{"name":"scores","datatype":"FP32","shape":[2],'
        b'"parameters":{"binary_data_size":8}}],"model_version":"1.2.0","id":"r-1"}'
        + bytes.fromhex("0000803e0000403f")
    )
    assert encoded.header_length == len(encoded.body) - 8
    assert oip.decode_response(encoded.body, encoded.header_length) == response
    assert oip.encode_response(response).header_length is None


def test_a_caller_that_wants_all_outputs_binary_says_it_once() -> None:
    body = b'{"inputs":[],"parameters":{"binary_data_output":true},"outputs":[{"name":"y"}]}'
    request = oip.decode_request(body, None)
    assert request.binary_output
    assert request.wants_binary("y")
    assert request.wants_binary("never named")


@pytest.mark.parametrize(
    ("datatype", "text", "data"),
    [
        ("BOOL", b"[true,false]", b"\1\0"),
        ("UINT8", b"[0,255]", b"\0\xff"),
        ("INT8", b"[-128,127]", b"\x80\x7f"),
        ("UINT16", b"[0,65535]", b"\0\0\xff\xff"),
        ("INT16", b"[-2,2]", b"\xfe\xff\2\0"),
        ("UINT32", b"[1,4294967295]", b"\1\0\0\0\xff\xff\xff\xff"),
        ("INT32", b"[-1,1]", b"\xff\xff\xff\xff\1\0\0\0"),
        ("UINT64", b"[1,18446744073709551615]", b"\1" + b"\0" * 7 + b"\xff" * 8),
        ("INT64", b"[-1,1]", b"\xff" * 8 + b"\1" + b"\0" * 7),
        ("FP16", b"[1.0,-2.0]", bytes.fromhex("003c00c0")),
        ("FP32", b"[1.0,-2.0]", bytes.fromhex("0000803f000000c0")),
        ("FP64", b"[1.0,-2.0]", bytes.fromhex("000000000000f03f00000000000000c0")),
        ("BYTES", b'["a","\xc3\xa9"]', b"\1\0\0\0a\2\0\0\0\xc3\xa9"),
    ],
)
def test_every_datatype_says_the_same_in_both_forms(
    datatype: str, text: bytes, data: bytes
) -> None:
    tensor = Tensor("x", datatype, (2,), data)
    header = f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[2],"data":'.encode()
    written = header + text + b"}]}"
    assert oip.decode_request(written, None).inputs == (tensor,)
    assert oip.encode_request(oip.OipRequest((tensor,)), binary=False).body == written
    raw = oip.encode_request(oip.OipRequest((tensor,)))
    assert oip.decode_request(raw.body, raw.header_length).inputs == (tensor,)


def test_nested_data_is_read_when_it_has_the_shape() -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[[1,2],[3,4]]}]}'
    assert oip.decode_request(body, None).inputs == (Tensor("x", "FP32", (2, 2), FLOATS),)


def one(fields: str) -> bytes:
    return f'{{"inputs":[{{"name":"x",{fields}}}]}}'.encode()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not an inference request"),
        (b"[]", "not an inference request"),
        (b'{"inputs":[{"name":"x"}]}', "missing required field"),
        (one('"datatype":"FP32","shape":[2]'), "neither data nor"),
        (one('"datatype":"FP31","shape":[2],"data":[1,2]'), "unknown datatype 'FP31'"),
        (one('"datatype":"FP32","shape":[3],"data":[1,2]'), r"shape \[3\].* holds 2 elements"),
        (one('"datatype":"FP32","shape":[-1],"data":[1,2]'), "impossible shape"),
        (one(f'"datatype":"FP32","shape":{[1] * 17},"data":[1]'), "impossible shape"),
        (one('"datatype":"FP32","shape":[2,2],"data":[[1,2],[3]]'), "does not follow the shape"),
        (one('"datatype":"FP32","shape":[1],"data":[NaN]'), "not an inference request"),
        (one('"datatype":"FP32","shape":[1],"data":["one"]'), "FP32.*not of the tensor's type"),
        (one('"datatype":"FP32","shape":[1],"data":[1e39]'), "does not fit FP32"),
        (one('"datatype":"UINT8","shape":[1],"data":[256]'), "does not fit UINT8"),
        (one('"datatype":"UINT8","shape":[1],"data":[-1]'), "does not fit UINT8"),
        (one('"datatype":"UINT8","shape":[1],"data":[1.5]'), "UINT8.*not of the tensor's type"),
        (one('"datatype":"BOOL","shape":[1],"data":[1]'), "BOOL.*not of the tensor's type"),
        (one('"datatype":"UINT8","shape":[1],"data":' + "[" * 5000 + "]" * 5000), "x|not an"),
        (
            one('"datatype":"UINT8","shape":[1],"parameters":{"binary_data_size":1}'),
            "0 bytes are left",
        ),
        (
            one('"datatype":"UINT8","shape":[0],"parameters":{"binary_data_size":true}'),
            "binary_data_size is True",
        ),
        (
            one('"datatype":"UINT8","shape":[0],"data":[],"parameters":{"binary_data_size":0}'),
            "both data and binary_data_size",
        ),
        (
            b'{"inputs":[%b,%b]}'
            % ((b'{"name":"x","datatype":"UINT8","shape":[1],"data":[1]}',) * 2),
            "same name",
        ),
    ],
)
def test_a_body_that_does_not_say_what_it_should_is_a_named_error(body: bytes, told: str) -> None:
    with pytest.raises(MalformedMessage, match=told):
        oip.decode_request(body, None)


@pytest.mark.parametrize("length", [-1, len(TRITON_BODY) + 1])
def test_a_header_length_outside_the_body_is_a_named_error(length: int) -> None:
    with pytest.raises(MalformedMessage, match="Inference-Header-Content-Length"):
        oip.decode_request(TRITON_BODY, length)


@pytest.mark.parametrize("cut", range(0, len(TRITON_BODY) - 1, 7))
def test_a_truncated_body_is_a_named_error(cut: int) -> None:
    with pytest.raises(MalformedMessage):
        oip.decode_request(TRITON_BODY[:cut], min(cut, len(TRITON_HEADER)))


def test_bytes_that_belong_to_no_tensor_are_a_named_error() -> None:
    with pytest.raises(MalformedMessage, match="1 bytes at the end"):
        oip.decode_request(TRITON_BODY + b"!", len(TRITON_HEADER))


def test_what_is_over_the_limits_is_refused_before_it_is_read() -> None:
    with pytest.raises(MessageTooLarge, match="over 8388608"):
        oip.decode_request(b" " * (oip.MAX_BODY + 1), None)
    with pytest.raises(MessageTooLarge, match="claims"):
        oip.decode_request(one('"datatype":"FP64","shape":[1048577],"data":[]'), None)
    many = ",".join(
        f'{{"name":"x{n}","datatype":"UINT8","shape":[0],"data":[]}}' for n in range(65)
    )
    with pytest.raises(MessageTooLarge, match="65 tensors"):
        oip.decode_request(f'{{"inputs":[{many}]}}'.encode(), None)
    huge = oip.OipRequest((Tensor("x", "UINT8", (oip.MAX_BODY,), bytes(oip.MAX_BODY)),))
    with pytest.raises(MessageTooLarge):
        oip.encode_request(huge)


@pytest.mark.parametrize("data", [b"\1\0", b"\2\0\0\0a", b"\0\0\0\0\0"])
def test_a_torn_bytes_tensor_is_a_named_error(data: bytes) -> None:
    header = one(f'"datatype":"BYTES","shape":[1],"parameters":{{"binary_data_size":{len(data)}}}')
    with pytest.raises(MalformedMessage, match="BYTES"):
        oip.decode_request(header + data, len(header))


def test_what_json_cannot_say_is_not_said() -> None:
    nan = oip.OipResponse("m", (Tensor("y", "FP32", (1,), struct.pack("<f", math.nan)),))
    with pytest.raises(MalformedMessage, match="NaN"):
        oip.encode_response(nan)
    assert oip.encode_response(nan, binary={"y"}).header_length is not None
    noise = oip.OipResponse("m", (Tensor("y", "BYTES", (1,), b"\1\0\0\0\xff"),))
    with pytest.raises(MalformedMessage, match="no text"):
        oip.encode_response(noise)


@given(st.binary(max_size=200), st.none() | st.integers(-5, 300))
def test_noise_is_a_named_error_and_nothing_else(body: bytes, length: int | None) -> None:
    with pytest.raises(MalformedMessage):
        oip.decode_request(body, length)


NUMBERS = sorted(ELEMENT_BYTES)


@given(
    st.lists(
        st.tuples(st.sampled_from(NUMBERS), st.lists(st.integers(0, 4), max_size=3)), max_size=4
    ),
    st.data(),
)
def test_what_is_written_in_binary_is_read_back(
    kinds: list[tuple[str, list[int]]], data: st.DataObject
) -> None:
    inputs = []
    for place, (datatype, shape) in enumerate(kinds):
        size = math.prod(shape) * ELEMENT_BYTES[datatype]
        body = data.draw(st.binary(min_size=size, max_size=size))
        inputs.append(Tensor(f"x{place}", datatype, tuple(shape), body))
    request = oip.OipRequest(tuple(inputs), binary_output=True, parameters={})
    encoded = oip.encode_request(request)
    read = oip.decode_request(encoded.body, encoded.header_length)
    assert read.inputs == request.inputs
    assert read.binary_output


def test_an_escalation_and_its_answer_survive_the_protocol() -> None:
    escalation = Escalation(
        "d1", "r-1", "activity", "1.0", 250, (Tensor("x", "FP32", (4,), FLOATS),)
    )
    request = live.request_of(escalation)
    assert request.id == "r-1"
    assert request.inputs == escalation.inputs
    for confidence in (0.1, None):
        answer = Escalated("r-1", "activity", "walking", confidence, "1.0", 812)
        encoded = oip.encode_response(live.response_of(answer), binary={"label", "confidence"})
        assert live.answer_of(oip.decode_response(encoded.body, encoded.header_length)) == answer


def test_an_answer_without_a_label_is_a_named_error() -> None:
    with pytest.raises(MalformedMessage, match="no output `label`"):
        live.answer_of(oip.OipResponse("m", (Tensor("y", "FP32", (4,), FLOATS),)))
    assert list(unpack_bytes(b"")) == []
