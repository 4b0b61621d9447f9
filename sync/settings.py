"""One grammar for every program's settings.

1. Layers, later ones win key by key: the struct's defaults, a TOML file, the environment, `--set`.
2. In the environment `PREFIX_A__B` is the key `b` of table `a`: two underscores nest, case does not
   count. `PREFIX_` alone belongs to this program; other variables are none of its business.
3. `--set a.b=c` names the same key. There and in the environment a value is text, and the field's
   type decides what it means (`3`, `true`, `null`); an array or a table is written as in TOML.
4. An unknown key or a wrong type is an error that shows where it stands. Nothing is read at import.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from sync.errors import SettingsError

T = TypeVar("T")
_Table = dict[str, object]


def load(
    shape: type[T],
    *,
    toml: Path | None,
    environ: Mapping[str, str],
    prefix: str,
    overrides: Sequence[str] = (),
) -> T:
    """Settings of type `shape` from all layers. Raises `SettingsError`.

    `prefix` is the part before the first key, as in `LONGSTOP_AGENT_`.
    """
    given: _Table = {}
    told: list[str] = []
    if toml is not None:
        given = _read(toml)
        told.append(str(toml))
    for name in sorted(environ):
        if name.startswith(prefix):
            keys = [key.lower() for key in name.removeprefix(prefix).split("__")]
            _put(given, keys, environ[name], name)
            told.append(name)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise SettingsError(f"--set {override!r} has no value; write it as a.b=value")
        _put(given, path.strip().split("."), text.strip(), f"--set {override}")
        told.append(f"--set {path}")
    try:
        # Text may stand for a number: lax conversion reads it as the field's type.
        return msgspec.convert(given, shape, strict=False, dec_hook=_foreign)
    except msgspec.ValidationError as error:
        layers = ", ".join(told) or "no layer at all"
        raise SettingsError(f"{error} (settings came from: {layers})") from error


def _read(toml: Path) -> _Table:
    try:
        return tomllib.loads(toml.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {toml} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {toml} is not TOML: {error}") from error


def _put(table: _Table, keys: Sequence[str], text: str, source: str) -> None:
    if not all(keys):
        raise SettingsError(f"{source} names no key; write it as a.b (or A__B in the environment)")
    for key in keys[:-1]:
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"{source} goes below {key!r}, which is a single value")
        table = inner
    table[keys[-1]] = _value(text)


def _value(text: str) -> object:
    if not text.startswith(("[", "{")):
        return text
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text  # an address such as [::1]:80, or a mistake the field's type will name
    return read["value"] if len(read) == 1 else text


def _foreign(kind: type, value: object) -> object:
    """What msgspec does not convert itself: paths. A `TypeError` comes back with its place."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"expected a text for a {kind.__name__}, got {type(value).__name__}")
