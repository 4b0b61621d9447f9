"""A live escalation as the Open Inference Protocol says it, and the answer on its way back.

Over HTTP an escalation is `POST /v2/models/{task}/infer`, inputs in binary form, and headers for
what the protocol has no place for. The answer's outputs are `label` (BYTES, one element) and
`confidence` (FP64, one element; absent where there is none), and `answer` (BYTES, the whole answer
as JSON) where the label does not say it all; others may stand beside them.
`model_version` is the package version, parameter `run_us` the time the model took.
"""

import struct

from sync.errors import MalformedMessage
from sync.wire import v1
from sync.wire.elements import pack_text, unpack_bytes
from sync.wire.oip import OipRequest, OipResponse, WantedOutput

REQUEST_ID = "X-Request-Id"
DEADLINE_MS = "X-Deadline-Ms"
"""Milliseconds for which a live answer is of use; 0 for a case from the backlog."""
PACKAGE_VERSION = "X-Package-Version"
LABEL = "label"
CONFIDENCE = "confidence"
ANSWER = "answer"
RUN_US = "run_us"


def request_of(escalation: v1.Escalation) -> OipRequest:
    """What the device asks."""
    return OipRequest(
        inputs=escalation.inputs,
        id=escalation.request_id,
        outputs=tuple(WantedOutput(name, binary=True) for name in (LABEL, CONFIDENCE, ANSWER)),
    )


def response_of(answer: v1.Escalated) -> OipResponse:
    """What the gateway answers."""
    outputs = [v1.Tensor(LABEL, "BYTES", (1,), pack_text([answer.label]))]
    if answer.confidence is not None:
        outputs.append(v1.Tensor(CONFIDENCE, "FP64", (1,), struct.pack("<d", answer.confidence)))
    if answer.answer:
        outputs.append(v1.Tensor(ANSWER, "BYTES", (1,), pack_text([answer.answer])))
    return OipResponse(
        model_name=answer.task,
        outputs=tuple(outputs),
        model_version=answer.version,
        id=answer.request_id,
        parameters={RUN_US: answer.run_us},
    )


def answer_of(response: OipResponse) -> v1.Escalated:
    """What the device makes of it. Raises `MalformedMessage`."""
    label: str | None = None
    answer = ""
    confidence: float | None = None
    for output in response.outputs:
        match output:
            case v1.Tensor(name="label", datatype="BYTES", shape=(1,), data=data):
                label = next(unpack_bytes(data)).decode(errors="replace")
            case v1.Tensor(name="answer", datatype="BYTES", shape=(1,), data=data):
                answer = next(unpack_bytes(data)).decode(errors="replace")
            case v1.Tensor(name="confidence", datatype="FP64", shape=(1,), data=data):
                (confidence,) = struct.unpack("<d", data)
            case _:
                pass  # outputs of the model itself, which the device has not asked for
    if label is None:
        raise MalformedMessage(
            f"answer to {response.id!r} has no output `label` (BYTES, one element)"
        )
    run_us = response.parameters.get(RUN_US, 0)
    return v1.Escalated(
        request_id=response.id,
        task=response.model_name,
        label=label,
        confidence=confidence,
        version=response.model_version,
        run_us=run_us if isinstance(run_us, int) else 0,
        answer=answer,
    )
