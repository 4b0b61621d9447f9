"""A step that a package brings as a Python module of its own.

1. Off unless the settings of this device or gateway allow it: nothing of the module is read, not
   even compiled, before that is known.
2. The module is run from the bytes that were checked against the manifest, never from a path that
   may hold something else by now, and leaves no compiled file beside it.
3. It runs with all rights of the worker. There is no sandbox: a signature says who wrote it, and
   allowing it says that they are trusted with this machine.
4. The function takes one argument for each value before it and gives one value, or a tuple of them,
   of the kinds it declared. It says that an input is bad by raising an `InputError`; anything else
   it raises is a `CustomStepFailed`.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Protocol

import numpy as np

from models.errors import CustomCodeForbidden, CustomStepFailed, InputError
from models.pipeline.kinds import Kind
from models.pipeline.values import Value

Custom = Callable[[Sequence[Value]], tuple[Value, ...]]


class _Function(Protocol):
    def __call__(self, *values: Value) -> object: ...


def compile_custom(
    source: bytes, *, file: str, function: str, gives: tuple[Kind, ...], allow_custom: bool
) -> Custom:
    """The function of a module, with its results checked against `gives`.

    `source` is the module's text in UTF-8, `file` its name for messages. Raises
    `CustomCodeForbidden` and `CustomStepFailed`; so does the function, and `InputError`.
    """
    if not allow_custom:
        raise CustomCodeForbidden(
            f"this package brings code of its own, {file}, and the settings here do not allow it; "
            "allow custom code only if you trust its publisher with this machine"
        )
    call = _load(source, file, function)
    where = f"{file}:{function}"

    def custom(values: Sequence[Value]) -> tuple[Value, ...]:
        try:
            given = call(*values)
        except InputError:
            raise
        except Exception as error:  # whatever a stranger's code raises
            raise CustomStepFailed(f"{where} failed: {type(error).__name__}: {error}") from error
        found = given if isinstance(given, tuple) else (given,)
        if len(found) != len(gives):
            raise CustomStepFailed(f"{where} gave {len(found)} values, {len(gives)} are declared")
        return tuple(_checked(value, kind, where) for value, kind in zip(found, gives, strict=True))

    return custom


def _load(source: bytes, file: str, function: str) -> _Function:
    name = f"longstop_custom_{hashlib.sha256(source).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module  # a dataclass looks its module up there
    try:
        exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - rule 3
    except (Exception, SystemExit) as error:  # whatever a stranger's code raises
        sys.modules.pop(name, None)
        raise CustomStepFailed(
            f"{file} does not load: {type(error).__name__}: {error}; correct it and build again"
        ) from error
    found: object = getattr(module, function, None)
    if not callable(found):
        raise CustomStepFailed(f"{file} has no function {function!r}; correct it and build again")
    return found


def _checked(value: object, kind: Kind, where: str) -> Value:
    match value:
        case np.ndarray() if kind.dtype not in ("bytes", "text", "record"):
            if value.dtype == kind.dtype and _fits(value.shape, kind):
                return value
            what = f"{value.dtype} {list(value.shape)}"
        case bytes() if kind.dtype == "bytes":
            return value
        case str() if kind.dtype == "text":
            return value
        case dict() if kind.dtype == "record":
            return value
        case _:
            what = type(value).__name__
    raise CustomStepFailed(f"{where} gave {what}, {kind.words()} is declared")


def _fits(shape: tuple[int, ...], kind: Kind) -> bool:
    sides = (None, *kind.shape) if kind.many else kind.shape
    return len(shape) == len(sides) and all(
        side in (None, has) for side, has in zip(sides, shape, strict=True)
    )
