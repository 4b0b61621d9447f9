"""Opens the feature sources a device's settings name, in the worker that asks them.

A source that cannot be opened is one that is out: packages go on with their declared defaults.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_agent.workplace import FeastView, FeatureTable, HttpTable, SqliteTable, Workplace
from models.errors import FeatureSourceOut, ModelsError
from models.pipeline.features import FeatureSource, Key, Row
from sync.clock import Clock

log = logging.getLogger(__name__)


def open_sources(place: Workplace, clock: Clock) -> Mapping[str, FeatureSource]:
    """Sources by name; nothing is asked of them yet."""
    found: dict[str, FeatureSource] = {}
    for name, table in place.features.items():
        try:
            found[name] = _open(table, place, clock)
        except (OSError, ValueError, ModelsError) as error:
            log.error("features.not_opened source=%s why=%s", name, error)
    return found


def _open(table: FeatureTable, place: Workplace, clock: Clock) -> FeatureSource:
    match table:
        case SqliteTable(path, name, key, updated):
            from models.pipeline.features_sqlite import SqliteFeatures

            file = Path(place.data) / Path(path).expanduser()
            return SqliteFeatures(file, clock, table=name, key=key, updated=updated or None)
        case HttpTable(path):
            from models.pipeline.features_http import HttpFeatures, over_connections

            token = Path(place.token_file).read_text(encoding="utf-8").strip()
            return HttpFeatures(over_connections(place.gateway, token), path)
        case FeastView(repository, view, entity):
            from models.pipeline.features_feast import FeastFeatures

            store = Path(place.data) / Path(repository).expanduser()
            return InThread(FeastFeatures(store, clock, view=view, entity=entity))


class InThread:
    """A source that keeps to no timeout, held to it: what takes longer is out."""

    def __init__(self, source: FeatureSource) -> None:
        self._source = source
        self._threads = ThreadPoolExecutor(1, "features")

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        asked = self._threads.submit(self._source.read, key, names, timeout_s)
        try:
            return asked.result(timeout_s)
        except TimeoutError as error:
            asked.cancel()  # one that waits behind a slow one need not be asked any more
            raise FeatureSourceOut(f"no answer within {timeout_s:g} s") from error
