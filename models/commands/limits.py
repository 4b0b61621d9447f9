"""What an option may say, asked before any work: each answers why not, or None."""

import math
from collections.abc import Iterable


def share(option: str, value: float | None) -> str | None:
    """Between 0 and 1, both left out."""
    if value is None or 0 < value < 1:
        return None
    return f"{option} lies between 0 and 1, not {value:g}"


def not_negative(option: str, value: float | None) -> str | None:
    """A count, a seed, a price: finite and 0 or more."""
    if value is None or 0 <= value < math.inf:
        return None
    return f"{option} is 0 or more, not {value:g}"


def positive(option: str, value: float | None) -> str | None:
    """A time: finite and above 0."""
    if value is None or 0 < value < math.inf:
        return None
    return f"{option} is above 0, not {value:g}"


def version(value: str | None) -> str | None:
    """What a manifest takes as a version."""
    import msgspec

    from models.manifest import Version

    if value is None:
        return None
    try:
        msgspec.convert(value, Version)
    except msgspec.ValidationError:
        return (
            f"--version {value!r} is none; take letters, digits, '.', '_' and '-', 63 at most,"
            " and begin with a letter or digit"
        )
    return None


def name(option: str, value: str | None) -> str | None:
    """What a manifest takes as a name."""
    import msgspec

    from models.manifest import Name

    if value is None:
        return None
    try:
        msgspec.convert(value, Name)
    except msgspec.ValidationError:
        return (
            f"{option} {value!r} is none; take small letters, digits, '.', '_' and '-', 63 at most,"
            " and begin with a letter or digit"
        )
    return None


def first(found: Iterable[str | None]) -> str | None:
    return next((why for why in found if why is not None), None)
