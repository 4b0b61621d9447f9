"""What of a hard input may leave: settings, applied before anything is written to disk or wire.

1. A private field of a record leaves as null; whoever reads it sees a missing value.
2. Under `features` only the named fields of a record leave, and of nothing else anything.
3. Under `crops` a picture leaves black outside of what the package's own detector found in it, and
   nothing else leaves, nor a picture in which nothing was found.
4. Under `nothing` nothing leaves.
5. What cannot be read as what it claims to be does not leave.
"""

from collections.abc import Callable

import msgspec

from edge_agent.cascade.ports import Bytes, InferRequest, Leaving
from edge_agent.workplace import PrivacySettings
from models.errors import ModelsError
from models.pipeline.answers import Detected
from models.predict import Prediction

LEAST_SCORE = 0.1
"""What a detector believes in less is not there."""
_Values = dict[str, msgspec.Raw]
_NULL = msgspec.Raw(b"null")
_decoder = msgspec.json.Decoder(_Values)
_encoder = msgspec.json.Encoder()


class Everything:
    """No rule: an input leaves as it came."""

    def leaving(self, request: InferRequest, prediction: Prediction) -> Leaving | None:
        return Leaving(request.shape, request.data)


class Ruled:
    """The rules of one device."""

    def __init__(self, settings: PrivacySettings) -> None:
        self._fields = frozenset(settings.fields)
        self._allowed = frozenset(settings.features) - self._fields
        self._escalate = settings.escalate

    def leaving(self, request: InferRequest, prediction: Prediction) -> Leaving | None:
        match self._escalate:
            case "nothing":
                return None
            case "features":
                return _record(request.data, self._permitted) if _is_record(request) else None
            case "crops":
                return _crops(request, prediction)
            case "all":
                if not (self._fields and _is_record(request)):
                    return Leaving(request.shape, request.data)
                return _record(request.data, self._masked)

    def _masked(self, values: _Values) -> _Values:
        return {name: _NULL if name in self._fields else value for name, value in values.items()}

    def _permitted(self, values: _Values) -> _Values:
        return {name: value for name, value in values.items() if name in self._allowed}


def _is_record(request: InferRequest) -> bool:
    return request.dtype == "record"


def _record(data: Bytes, rule: Callable[[_Values], _Values]) -> Leaving | None:
    try:
        values = rule(_decoder.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # rule 5
    left = _encoder.encode(values)
    return Leaving((len(left),), left) if values else None


def _crops(request: InferRequest, prediction: Prediction) -> Leaving | None:
    if not isinstance(prediction.answer, Detected):
        return None
    from edge_agent.cascade.crops import only

    try:
        found = prediction.output
        # The uncertain ones as well: those make the input a hard one.
        return only(request, found[found[:, 4] >= LEAST_SCORE, :4])
    except ModelsError:
        return None  # rule 5
