"""Opens the feature sources a device's settings name, in the worker that asks them.

A source that cannot be opened is one that is out: packages go on with their declared defaults. So
is one that is not on this device and would be asked with a private field as its key: a key is part
of the input, and leaves with the question.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_agent.workplace import FeastView, FeatureTable, HttpTable, SqliteTable, Workplace
from models.errors import ModelsError
from models.manifest import Role, decode
from models.package import MANIFEST
from models.pipeline.declared import Features
from models.pipeline.features import FeatureSource, InPool
from sync.clock import Clock

log = logging.getLogger(__name__)


def open_sources(place: Workplace, clock: Clock, package: Path) -> Mapping[str, FeatureSource]:
    """Sources by name, for the package in this folder; nothing is asked of them yet."""
    found: dict[str, FeatureSource] = {}
    private = _asked_with_private_keys(place, package)
    for name, table in place.features.items():
        if name in private and not isinstance(table, SqliteTable):
            log.warning("features.withheld source=%s why=its_key_is_private", name)
            continue
        try:
            found[name] = _open(table, place, clock)
        except (OSError, ValueError, ModelsError) as error:
            log.error("features.not_opened source=%s why=%s", name, error)
    return found


def _asked_with_private_keys(place: Workplace, package: Path) -> frozenset[str]:
    """Names of the sources this package would ask with what may not leave."""
    rule = place.privacy
    if not place.features or not (rule.fields or rule.escalate != "all"):
        return frozenset()
    nodes = decode((package / MANIFEST).read_bytes()).pipeline(Role.EDGE).nodes
    return frozenset(
        node.source
        for node in nodes
        if isinstance(node, Features)
        and (
            node.field in rule.fields
            or rule.escalate in ("nothing", "crops")
            or (rule.escalate == "features" and node.field not in rule.features)
        )
    )


def _open(table: FeatureTable, place: Workplace, clock: Clock) -> FeatureSource:
    match table:
        case SqliteTable(path, name, key, updated):
            from models.pipeline.features_sqlite import SqliteFeatures

            file = Path(place.data) / Path(path).expanduser()
            return SqliteFeatures(file, clock, table=name, key=key, updated=updated or None)
        case HttpTable(path):
            from models.pipeline.features_http import HttpFeatures, over_connections

            token = Path(place.token_file).read_text(encoding="utf-8").strip()
            return HttpFeatures(over_connections(place.gateway, token, place.tls), path)
        case FeastView(repository, view, entity):
            from models.pipeline.features_feast import FeastFeatures

            store = Path(place.data) / Path(repository).expanduser()
            threads = ThreadPoolExecutor(1, "features")
            return InPool(FeastFeatures(store, clock, view=view, entity=entity), threads)
