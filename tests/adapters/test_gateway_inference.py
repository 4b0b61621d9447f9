"""The cloud model over HTTP and to escalations: the same answers, the same named errors."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from msgspec import structs

from cloud_gateway.errors import ModelUnavailable, Overloaded, UnknownTask
from cloud_gateway.inference.engines.base import Engine, Wanted
from cloud_gateway.inference.run import Models
from cloud_gateway.observe.metrics import Metrics
from models import package
from models.errors import RuntimeFailed
from models.manifest import Role, TensorSpec
from models.pipeline.answers import Classified
from models.pipeline.values import Value
from models.predict import Prediction, Predictor
from models.tensors import Sample
from models.twins import LABELS, twin_sample
from sync.runner import ThreadRunner
from sync.wire import live, oip, v1
from sync.wire.elements import pack_text, unpack_bytes
from tests.asgi_gateway import PLAIN, TASK, AsgiDevice, AsgiGateway, asgi_gateway
from tests.tiny_models import build_tiny

SAMPLE = twin_sample(0, 2, confidence=0.5)
INFER = f"/v2/models/{TASK}/infer"


def tensor(sample: Sample = SAMPLE, **changed: object) -> v1.Tensor:
    whole = v1.Tensor("answers", "FP32", sample.shape, sample.astype("<f4").tobytes())
    return structs.replace(whole, **changed)


def escalation(request_id: str = "r1", task: str = TASK, **changed: object) -> v1.Escalation:
    whole = v1.Escalation("d1", request_id, task, "1", 300, (tensor(),))
    return structs.replace(whole, **changed)


async def infer(
    device: AsgiDevice, request: oip.OipRequest, *, binary: bool = True, path: str = INFER
) -> httpx.Response:
    encoded = oip.encode_request(request, binary=binary)
    headers = dict(device.headers)
    if encoded.header_length is not None:
        headers[oip.HEADER_LENGTH] = str(encoded.header_length)
    return await device.http.post(path, content=encoded.body, headers=headers)


def decoded(answer: httpx.Response) -> oip.OipResponse:
    assert answer.status_code == 200, answer.text
    length = answer.headers.get(oip.HEADER_LENGTH)
    return oip.decode_response(answer.content, int(length) if length else None)


def outputs(response: oip.OipResponse) -> dict[str, v1.Tensor]:
    return {one.name: one for one in response.outputs}


async def ready(made: AsgiGateway, folder: Path) -> AsgiDevice:
    await made.publish_twin("1", folder)
    return await made.add("d1")


@pytest.mark.parametrize("binary_in", [False, True], ids=["json in", "binary in"])
@pytest.mark.parametrize("binary_out", [False, True], ids=["json out", "binary out"])
def test_one_sample_gets_label_confidence_and_logits(
    tmp_path: Path, binary_in: bool, binary_out: bool
) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            request = oip.OipRequest((tensor(),), id="r7", binary_output=binary_out)
            response = decoded(await infer(device, request, binary=binary_in))
            assert (response.model_name, response.model_version, response.id) == (TASK, "1", "r7")
            assert response.parameters["version"] == "1"
            found = outputs(response)
            assert found["label"].data == pack_text([LABELS[2]])
            logits = np.frombuffer(found["logits"].data, "<f4")
            assert logits.tolist() == [0.0, 0.0, 6.0]
            (confidence,) = np.frombuffer(found["confidence"].data, "<f8")
            assert confidence == pytest.approx(np.exp(6) / (np.exp(6) + 2), rel=1e-5)
            assert (found["label"].shape, found["logits"].shape) == ((1,), (3,))

    asyncio.run(check())


def test_several_samples_come_back_in_their_order(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            many = np.stack([twin_sample(0, cloud, confidence=0.5) for cloud in (1, 0, 2)])
            request = oip.OipRequest((tensor(many),), binary_output=True)
            found = outputs(decoded(await infer(device, request)))
            labels = [one.decode() for one in unpack_bytes(found["label"].data)]
            assert labels == [LABELS[1], LABELS[0], LABELS[2]]
            assert found["logits"].shape == (3, 3)

    asyncio.run(check())


def test_only_the_outputs_that_were_asked_for_come_back(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            wanted = (oip.WantedOutput("label", binary=False),)
            answer = await infer(device, oip.OipRequest((tensor(),), outputs=wanted))
            assert list(outputs(decoded(answer))) == ["label"]
            wanted = (oip.WantedOutput("colour", binary=False),)
            answer = await infer(device, oip.OipRequest((tensor(),), outputs=wanted))
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")

    asyncio.run(check())


def test_an_answer_without_confidence_has_no_number_for_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            flat = np.zeros(6, np.float32)  # a twin says what its input says: all logits alike
            response = decoded(await infer(device, oip.OipRequest((tensor(flat),))))
            assert list(outputs(response)) == ["label", "answer"]
            assert response.parameters["degenerate"] is True
            request = oip.OipRequest((tensor(flat),), binary_output=True)
            found = outputs(decoded(await infer(device, request)))
            assert sorted(found) == ["answer", "label", "logits"]
            mixed = oip.OipRequest((tensor(np.stack([flat, SAMPLE])),), binary_output=True)
            found = outputs(decoded(await infer(device, mixed)))
            shares = np.frombuffer(found["confidence"].data, "<f8")
            assert np.isnan(shares).tolist() == [True, False]
            reply = await device.up(escalation(inputs=(tensor(flat),)))
            assert isinstance(reply, v1.Escalated)
            assert reply.confidence is None

    asyncio.run(check())


def test_an_escalation_gets_the_same_answer_over_the_desk(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            reply = await device.up(escalation())
            assert isinstance(reply, v1.Escalated)
            assert (reply.request_id, reply.task, reply.version) == ("r1", TASK, "1")
            assert reply.label == LABELS[2]
            # What a device makes of the answer over HTTP is that very answer.
            asked = live.request_of(escalation())
            told = live.answer_of(decoded(await infer(device, asked)))
            assert structs.replace(told, run_us=reply.run_us) == reply

    asyncio.run(check())


BAD_TENSORS = [
    ("wrong datatype", tensor(datatype="INT8", data=bytes(6)), "wrong_dtype"),
    ("no input type", tensor(datatype="BYTES", data=pack_text(["a"] * 6)), "wrong_dtype"),
    ("wrong shape", tensor(np.zeros(5, np.float32)), "wrong_shape"),
    ("one axis more", tensor(np.zeros((1, 1, 6), np.float32)), "wrong_shape"),
    ("too many samples", tensor(np.zeros((65, 6), np.float32)), "wrong_shape"),
    ("empty", tensor(np.zeros(0, np.float32)), "empty_input"),
    ("no samples", tensor(np.zeros((0, 6), np.float32)), "wrong_shape"),
    ("nan", tensor(np.full(6, np.nan, np.float32)), "not_finite"),
    ("infinite", tensor(np.full(6, np.inf, np.float32)), "not_finite"),
    ("nan in a later sample", tensor(np.array([[0] * 6, [np.nan] * 6], np.float32)), "not_finite"),
]


@pytest.mark.parametrize(
    ("given", "code"), [row[1:] for row in BAD_TENSORS], ids=[row[0] for row in BAD_TENSORS]
)
def test_an_input_the_model_cannot_take_is_named_on_both_ways(
    tmp_path: Path, given: v1.Tensor, code: str
) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            answer = await infer(device, oip.OipRequest((given,)))
            assert (answer.status_code, answer.json()["code"]) == (400, code)
            assert answer.json()["permanent"]
            reply = await device.up(escalation(inputs=(given,)))
            assert isinstance(reply, v1.Refused)
            assert (reply.code, reply.permanent) == (code, True)
            # The next one is fine.
            assert isinstance(await device.up(escalation("r2")), v1.Escalated)

    asyncio.run(check())


BAD_BODIES: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("no json", b"{", {}, 400, "malformed_message"),
    ("empty", b"", {}, 400, "malformed_message"),
    ("deep", b'{"inputs":' + b"[" * 1000, {}, 400, "malformed_message"),
    ("no inputs", b'{"inputs": []}', {}, 400, "bad_request"),
    (
        "two inputs",
        (
            b'{"inputs": [{"name":"a","datatype":"FP32","shape":[1],"data":[1]},'
            b'{"name":"b","datatype":"FP32","shape":[1],"data":[1]}]}'
        ),
        {},
        400,
        "bad_request",
    ),
    (
        "header longer than the body",
        b"{}",
        {oip.HEADER_LENGTH: "99"},
        400,
        "malformed_message",
    ),
    ("header no number", b"{}", {oip.HEADER_LENGTH: "-1"}, 400, "bad_request"),
    (
        "fewer bytes than claimed",
        (
            b'{"inputs":[{"name":"a","datatype":"FP32","shape":[6],'
            b'"parameters":{"binary_data_size":24}}]}1234'
        ),
        {oip.HEADER_LENGTH: "92"},
        400,
        "malformed_message",
    ),
    ("too large", bytes(1025), {}, 413, "body_too_large"),
]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [row[1:] for row in BAD_BODIES],
    ids=[row[0] for row in BAD_BODIES],
)
def test_a_body_that_is_no_inference_request_is_named(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    small = structs.replace(PLAIN, max_body_bytes=1024)

    async def check() -> None:
        async with asgi_gateway(tmp_path / "data", small) as made:
            device = await ready(made, tmp_path)
            answer = await made.http.post(INFER, content=body, headers=device.headers | headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code)

    asyncio.run(check())


@pytest.mark.parametrize("path", [INFER, "/v1/up"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length given", "chunked"])
def test_a_body_over_the_limit_is_refused_before_it_is_read_whole(
    tmp_path: Path, path: str, chunked: bool
) -> None:
    small = structs.replace(PLAIN, max_body_bytes=1024)
    read = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 1 << 20:
            read += 512
            yield bytes(512)

    async def check() -> None:
        async with asgi_gateway(tmp_path / "data", small) as made:
            device = await ready(made, tmp_path)
            headers = dict(device.headers)
            if not chunked:
                headers["Content-Length"] = "1000000"
            answer = await made.http.post(path, content=long(), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

    asyncio.run(check())
    assert read <= (2048 if chunked else 512)


def test_an_unknown_task_is_named_on_every_way(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            for path in ("/v2/models/odd", "/v2/models/odd/ready"):
                answer = await made.http.get(path)
                assert (answer.status_code, answer.json()["code"]) == (404, "unknown_task")
            answer = await infer(device, oip.OipRequest((tensor(),)), path="/v2/models/odd/infer")
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_task")
            reply = await device.up(escalation(task="odd"))
            assert isinstance(reply, v1.Refused)
            assert (reply.code, reply.permanent) == ("unknown_task", True)

    asyncio.run(check())


def test_metadata_says_what_the_model_takes_and_gives(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            await ready(made, tmp_path)
            told = (await made.http.get(f"/v2/models/{TASK}")).json()
            assert told["versions"] == ["1"]
            assert told["inputs"] == [{"name": "answers", "datatype": "FP32", "shape": [6]}]
            assert [one["name"] for one in told["outputs"]] == [
                "label",
                "confidence",
                "answer",
                "logits",
            ]
            assert (await made.http.get(f"/v2/models/{TASK}/ready")).json() == {"ready": True}
            assert (await made.http.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
            assert (await made.http.get("/v2/health/live")).status_code == 200
            assert (await made.http.get("/v2/health/ready")).status_code == 200

    asyncio.run(check())


def test_a_real_onnx_model_answers_like_its_package_says(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            await made.publish(build_tiny(tmp_path / "tiny"))
            device = await made.add("d1")
            image = v1.Tensor("image", "UINT8", (2, 3), bytes([255, 0, 0, 0, 0, 0]))
            answer = await infer(
                device, oip.OipRequest((image,), binary_output=True), path="/v2/models/shades/infer"
            )
            found = outputs(decoded(answer))
            predictor = Predictor.load(package.read(tmp_path / "tiny" / "package-1", Role.CLOUD))
            wanted = predictor.predict(np.frombuffer(image.data, np.uint8).reshape(2, 3))
            assert found["label"].data == pack_text([wanted.label])
            assert found["logits"].data == wanted.output.astype("<f4").tobytes()

    asyncio.run(check())


def test_the_newest_desired_version_answers_and_says_so(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)

            async def version() -> str:
                reply = await device.up(escalation(request_id=f"r{len(asked)}"))
                asked.append(reply)
                assert isinstance(reply, v1.Escalated)
                return reply.version

            asked: list[v1.Down] = []
            assert await version() == "1"
            # Nobody desires anything, so the newest answers; once somebody does, theirs.
            await made.publish_twin("2", tmp_path)
            assert await version() == "2"
            await made.desire("1")
            assert await version() == "1"
            await made.publish_twin("3", tmp_path)
            assert await version() == "1"
            await made.desire("3", "d1")
            assert await version() == "3"
        async with asgi_gateway(tmp_path / "data") as made:
            found = made.gateway.models.facts(TASK)
            assert found.version == "3"

    asyncio.run(check())


def test_a_cloud_archive_altered_on_disk_does_not_answer(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            packed = await made.publish_twin("1", tmp_path)
            device = await made.add("d1")
        archive = tmp_path / "data" / "blobs" / packed.release.cloud.sha256[:2]
        path = archive / packed.release.cloud.sha256
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        async with asgi_gateway(tmp_path / "data") as made:
            answer = await infer(
                AsgiDevice("d1", device.token, made.http), oip.OipRequest((tensor(),))
            )
            assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
            assert "SHA-256" in answer.json()["detail"]
            assert answer.headers["retry-after"] == "5"
            health = (await made.http.get("/health/ready")).json()
            assert health["ready"]  # for everything but this task
            assert (await made.http.get("/v2/health/ready")).status_code == 503
            assert [one["name"] for one in health["checks"] if not one["ok"]] == [f"model {TASK}"]

    asyncio.run(check())


def test_a_repeated_escalation_is_answered_once_and_counted_once(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            replies = await asyncio.gather(*(device.up(escalation()) for _ in range(5)))
            replies.append(await device.up(escalation()))
            assert len({repr(reply) for reply in replies}) == 1
            await device.up(escalation("r2"))
            await device.up(escalation("r3", inputs=(tensor(np.zeros(5, np.float32)),)))
            page = (await made.http.get("/metrics")).text
            assert f'longstop_escalations_total{{outcome="answered",task="{TASK}"}} 2.0' in page

    asyncio.run(check())
    with sqlite3.connect(tmp_path / "data" / "gateway.db") as connection:
        rows = connection.execute(
            "SELECT device, task, sum(answered), sum(refused) FROM device_escalations"
        ).fetchall()
    connection.close()
    assert rows == [("d1", TASK, 2, 1)]


class SlowEngine:
    """An engine that answers when it is let."""

    given = TensorSpec("answers", "float32", (6,), "C")
    labels = LABELS
    classifies = True
    provider = "cpu"
    warm_run_us = 10_000

    def __init__(self, wanted: Wanted) -> None:
        self.version = wanted.version
        self.go = threading.Event()

    def answer(self, samples: Sequence[Value]) -> Sequence[Prediction]:
        assert self.go.wait(10)
        logits = np.zeros(3, np.float32)
        said = Classified(self.version, 0)
        return [Prediction(self.version, 0.9, said, logits, 0, 10_000) for _ in samples]


class Opened:
    """Opens slow engines and remembers them."""

    def __init__(self) -> None:
        self.engines: dict[str, SlowEngine] = {}

    def __call__(self, wanted: Wanted) -> Engine:
        if wanted.version == "broken":
            raise RuntimeFailed("this file is no model; build the package again")
        return self.engines.setdefault(wanted.version, SlowEngine(wanted))


def models(opened: Opened, *, max_waiting: int = 2) -> Models:
    return Models(opened, ThreadRunner, Metrics(), inline_below_us=500, max_waiting=max_waiting)


def wanted(version: str) -> dict[str, Wanted]:
    return {TASK: Wanted(TASK, version, "0" * 64)}


def test_requests_over_the_limit_are_refused_at_once() -> None:
    async def check() -> None:
        opened = Opened()
        serving = models(opened)
        await serving.serve(wanted("1"))
        waiting = [asyncio.create_task(serving.answer(TASK, [tensor()])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 requests wait"):
            await serving.answer(TASK, [tensor()])
        opened.engines["1"].go.set()
        answers = await asyncio.gather(*waiting)
        assert [one.version for one in answers] == ["1", "1"]
        await serving.answer(TASK, [tensor()])
        serving.close()

    asyncio.run(check())


def test_a_new_version_takes_over_while_the_old_one_finishes_what_it_has() -> None:
    async def check() -> None:
        opened = Opened()
        serving = models(opened)
        await serving.serve(wanted("1"))
        old = asyncio.create_task(serving.answer(TASK, [tensor()]))
        await asyncio.sleep(0)
        await serving.serve(wanted("2"))
        opened.engines["2"].go.set()
        assert (await serving.answer(TASK, [tensor()])).version == "2"
        assert not old.done()
        opened.engines["1"].go.set()
        assert (await old).version == "1"
        serving.close()

    asyncio.run(check())


def test_a_version_that_does_not_load_leaves_the_old_one_answering() -> None:
    async def check() -> None:
        opened = Opened()
        serving = models(opened)
        with pytest.raises(UnknownTask):
            await serving.answer(TASK, [tensor()])
        await serving.serve(wanted("broken"))
        with pytest.raises(ModelUnavailable, match="no model"):
            await serving.answer(TASK, [tensor()])
        await serving.serve(wanted("1"))
        opened.engines["1"].go.set()
        await serving.serve(wanted("broken"))
        assert (await serving.answer(TASK, [tensor()])).version == "1"
        assert "no model" in serving.problems()[TASK]
        await serving.serve(wanted("1"))
        assert serving.problems() == {}
        serving.close()

    asyncio.run(check())


def test_callers_that_never_change_their_id_get_an_answer_to_each_question(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            device = await ready(made, tmp_path)
            for cloud in (0, 1):
                sample = twin_sample(2, cloud, confidence=0.5)
                response = decoded(await infer(device, oip.OipRequest((tensor(sample),), id="1")))
                assert response.id == "1"
                assert outputs(response)["label"].data == pack_text([LABELS[cloud]])

    asyncio.run(check())
