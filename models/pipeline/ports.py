"""Whether a model file takes and gives what its node declares. A side nobody knows fits any."""

from models.errors import RuntimeFailed
from models.pipeline.declared import Model
from models.pipeline.kinds import Kind
from models.pipeline.plan import Plan
from models.runtimes.base import Port, Runtime


def check_ports(node: Model, found: Plan, runtime: Runtime) -> None:
    """Return if the opened file fits. Raises `RuntimeFailed` with the node's name."""
    kinds = [found.kind_of(ref) for ref in node.after]
    if len(kinds) != len(runtime.inputs):
        raise RuntimeFailed(
            f"model {node.id!r} takes {len(runtime.inputs)} inputs "
            f"({', '.join(port.name for port in runtime.inputs)}), the pipeline gives {len(kinds)}"
        )
    for ref, kind, port in zip(node.after, kinds, runtime.inputs, strict=True):
        if not _fits(kind.dtype, kind.shape, port):
            raise RuntimeFailed(
                f"model {node.id!r} takes {_words(port)} as {port.name!r}, {ref!r} is "
                f"{kind.words()}; cast, reshape or transpose before the model"
            )
    if len(node.gives) != len(runtime.outputs):
        raise RuntimeFailed(
            f"model {node.id!r} gives {len(runtime.outputs)} outputs "
            f"({', '.join(port.name for port in runtime.outputs)}), "
            f"the pipeline declares {len(node.gives)}"
        )
    for gives, port in zip(node.gives, runtime.outputs, strict=True):
        if not _fits(gives.dtype, gives.shape, port):
            raise RuntimeFailed(
                f"model {node.id!r} gives {_words(port)} as {port.name!r}, the pipeline declares "
                f"{Kind(gives.dtype, gives.shape).words()}; declare what the file gives"
            )


def _fits(dtype: str, shape: tuple[int | None, ...], port: Port) -> bool:
    if dtype != port.dtype:
        return False
    if not port.shape:
        return True
    sides = port.shape[1:]
    return len(sides) == len(shape) and all(
        here is None or there is None or here == there
        for here, there in zip(shape, sides, strict=True)
    )


def _words(port: Port) -> str:
    return Kind("float32", port.shape[1:]).words().replace("float32", port.dtype)
