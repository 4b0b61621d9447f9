"""Features from a Feast feature store (extra `feast`).

Feast takes no timeout: ask it through `features.InPool`. It answers None for every feature of an
entity it does not have, and tells when a value was true in whole seconds, 0 where it does not know.
The library is untyped; nothing of it leaves this file.
"""

import importlib
from pathlib import Path
from typing import Any, Protocol

from models.errors import ExtraMissing, FeatureSourceOut
from models.pipeline.features import Key, Row
from sync.clock import Clock


class _Response(Protocol):
    def to_dict(self, *, include_event_timestamps: bool) -> dict[str, list[Any]]: ...


class _Store(Protocol):
    def get_online_features(
        self, *, features: list[str], entity_rows: list[dict[str, Any]]
    ) -> _Response: ...


class FeastFeatures:
    """Features of one view, by one entity. Raises `ExtraMissing`, `FeatureSourceOut`."""

    def __init__(self, repository: Path, clock: Clock, *, view: str, entity: str) -> None:
        self._clock = clock
        self._view = view
        self._entity = entity
        self._store = _store(repository)

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        """The row of a key. Raises `FeatureSourceOut`."""
        asked = [f"{self._view}:{name}" for name in names]
        try:
            answer = self._store.get_online_features(
                features=asked, entity_rows=[{self._entity: key}]
            ).to_dict(include_event_timestamps=True)
            values = [answer[name][0] for name in names]
            times = [seconds for name in names if (seconds := answer[f"{name}__ts"][0]) > 0]
        except Exception as error:  # Feast and each of its stores raise their own
            raise FeatureSourceOut(f"features of Feast view {self._view!r}: {error}") from error
        if all(value is None for value in values):
            return None
        age_s = max(0.0, self._clock.wall() - min(times)) if times else 0.0
        return Row(tuple(values), age_s)


def _store(repository: Path) -> _Store:
    try:
        feast = importlib.import_module("feast")
    except ImportError as error:
        raise ExtraMissing(
            "features come from Feast, and it is not installed; pip install longstop[feast]"
        ) from error
    try:
        store: _Store = feast.FeatureStore(repo_path=str(repository))
    except Exception as error:  # as above
        raise FeatureSourceOut(f"Feast repository {repository.name}: {error}") from error
    return store
