"""What a certificate rests on: model files, preparation, runtime, provider, precision."""

from collections.abc import Iterable
from hashlib import sha256

import msgspec
from msgspec.structs import replace

from models.calibrate.certificate import Binding, Certificate
from models.pipeline.declared import Model, Pipeline
from models.pipeline.files import FileRef
from models.runtimes.base import Runtime
from models.runtimes.choose import RUNTIMES
from models.runtimes.wish import AS_DECLARED, Precision, Runs

_NO_FILE = FileRef("model", "0" * 64, 0)


def binding(pipeline: Pipeline, runtimes: Iterable[Runtime]) -> Binding:
    """Of a certificate made here and now, by these opened models."""
    opened = tuple(runtimes)
    return binding_of(
        pipeline,
        _each_once(one.name for one in opened),
        _each_once(one.provider for one in opened),
        _each_once(one.precision for one in opened),
    )


def binding_of(pipeline: Pipeline, runtime: str, provider: str, precision: str) -> Binding:
    """Of a certificate made elsewhere, by what is known of it.

    Several models share one hash: that of their hashes, one behind the other.
    """
    models = [node.file.sha256 for node in pipeline.models]
    bare = [
        replace(node, file=_NO_FILE) if isinstance(node, Model) else node for node in pipeline.nodes
    ]
    return Binding(
        model_sha256=models[0] if len(models) == 1 else _digest("".join(models).encode()),
        preparation_sha256=_digest(msgspec.json.encode((bare, pipeline.output))),
        runtime=runtime,
        provider=provider,
        precision=precision,
    )


def runs_of(certificate: Certificate) -> Runs:
    """What the edge half has to run on for a certificate to speak of it."""
    bound = certificate.bound
    if bound is None or bound.runtime not in RUNTIMES:
        return AS_DECLARED
    try:
        precision = msgspec.convert(bound.precision, Precision)
    except msgspec.ValidationError:
        return AS_DECLARED  # of several models in several precisions, or of a runtime to come
    return Runs(bound.runtime, bound.provider, precision)


def _each_once(names: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(names))


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
