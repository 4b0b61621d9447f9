"""Rows to answers: the edge half for each, the rule, the cloud half for the hard ones."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from models import package
from models.calibrate.decide import judge
from models.data.rows import Row
from models.errors import CustomStepFailed, FeatureSourceOut, FileMissing, InputError, ModelsError
from models.manifest import Role
from models.pipeline.values import Value
from models.predict import Prediction, Predictor
from models.runtimes.wish import Precision, Provider

_OF_ONE_ROW = (InputError, CustomStepFailed, FeatureSourceOut)
"""What a row may bring about. A runtime that fails ends the run: it would fail for each."""


class Scored(Struct, frozen=True):
    """One row of the output."""

    name: str
    label: str | None
    confidence: float | None
    source: str | None
    """`edge` or `cloud`; None where neither answered."""
    reason: str | None
    """Why it stayed on the edge or did not, as the device says it."""
    hard: bool
    """What the edge alone is not trusted with. True for a row without an answer."""
    answer: str | None
    """The whole answer as JSON."""
    error: str | None
    """The code of what went wrong with this row."""


class Opening(Struct, frozen=True):
    """How the halves are to be opened."""

    edge_only: bool = False
    runtime: str | None = None
    provider: Provider = "cpu"
    precision: Precision = "f32"
    allow_custom: bool = False


class Cascade:
    """Both halves of a package, or its edge alone, and the certificate's threshold."""

    def __init__(self, edge: Predictor, cloud: Predictor | None) -> None:
        certificate = edge.package.manifest.certificate
        self.edge, self.cloud = edge, cloud
        self.uncertified = edge.golden_difference()
        """What this machine answers otherwise; then no certificate holds here."""
        self.threshold = certificate.threshold if self.uncertified is None else None

    @classmethod
    def load(cls, read: package.Package, opening: Opening) -> "Cascade":
        """Raises `ModelsError`; `FileMissing` for a folder that holds the edge half only."""
        edge = _open(read, opening)
        if opening.edge_only:
            return cls(edge, None)
        if Role.CLOUD not in package.roles(read.folder):
            raise FileMissing(
                f"{read.folder} holds no cloud half to ask about hard rows; give a folder with "
                "both halves, or choose to go with the edge alone (--edge-only)"
            )
        return cls(edge, _open(package.read(read.folder, Role.CLOUD), opening))

    @property
    def runtimes(self) -> str:
        """What computes: other versions may answer otherwise in the last bits."""
        halves = [self.edge] if self.cloud is None else [self.edge, self.cloud]
        return ", ".join(
            f"{one.name} {one.version} {one.provider} {one.precision}"
            for half in halves
            for one in half.graph.runtimes
        )

    def score(self, rows: Sequence[Row]) -> list[Scored]:
        """The answers to some rows, in their order. Raises `RuntimeFailed`."""
        values = [row.value for row in rows if not isinstance(row.value, ModelsError)]
        said = iter(_answers(self.edge, values))
        scored = [
            _failed(row, row.value)
            if isinstance(row.value, ModelsError)
            else self._by_edge(row, next(said))
            for row in rows
        ]
        hard = [at for at, one in enumerate(scored) if one.hard and one.error is None]
        if self.cloud is None or not hard:
            return scored
        asked = [value for at in hard if not isinstance(value := rows[at].value, ModelsError)]
        for at, answer in zip(hard, _answers(self.cloud, asked), strict=True):
            scored[at] = _by_cloud(scored[at], answer)
        return scored

    def _by_edge(self, row: Row, said: Prediction | ModelsError) -> Scored:
        if isinstance(said, ModelsError):
            return _failed(row, said)
        hard, reason = judge(said.confidence, self.threshold)
        return Scored(
            name=row.name,
            label=said.label,
            confidence=said.confidence,
            source="edge",
            reason=reason,
            hard=hard,
            answer=_json(said),
            error=None,
        )


def _open(read: package.Package, opening: Opening) -> Predictor:
    return Predictor.load(
        read,
        runtime=opening.runtime,
        provider=opening.provider,
        precision=opening.precision,
        allow_custom=opening.allow_custom,
    )


def _answers(predictor: Predictor, values: Sequence[Value]) -> list[Prediction | ModelsError]:
    """What a half says to each; where one of them cannot be prepared, each is asked alone."""
    if not values:
        return []
    try:
        return list(predictor.predict_batch(values))
    except _OF_ONE_ROW:
        return [_answer(predictor, value) for value in values]


def _answer(predictor: Predictor, value: Value) -> Prediction | ModelsError:
    try:
        return predictor.predict(value)
    except _OF_ONE_ROW as error:
        return error


def _by_cloud(edge: Scored, said: Prediction | ModelsError) -> Scored:
    """The cloud's answer; where it has none, the edge's stays, hard as it is."""
    if isinstance(said, ModelsError):
        return msgspec.structs.replace(edge, error=said.code)
    return msgspec.structs.replace(
        edge,
        label=said.label,
        confidence=said.confidence,
        source="cloud",
        answer=_json(said),
    )


def _failed(row: Row, error: ModelsError) -> Scored:
    return Scored(row.name, None, None, None, None, hard=True, answer=None, error=error.code)


def _json(said: Prediction) -> str:
    return msgspec.json.encode(said.answer).decode()
