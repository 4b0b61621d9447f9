"""An ONNX model without what only people read: on small nets names are a tenth of the file."""

from onnx import GraphProto, ModelProto

from models.quantize.reading import nodes_of


def stripped(model: ModelProto) -> ModelProto:
    """A copy without names, value_info, metadata, doc strings and unused operator sets.

    Inputs and outputs keep their names. Tensors are numbered in the order they are met, so two
    models of equal structure get equal names. A model with subgraphs keeps its tensor names.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    nested = sum(1 for _ in nodes_of(graph)) > len(graph.node)
    if not nested:
        _number(graph)
    del graph.value_info[:]
    del bare.metadata_props[:]
    graph.name = "longstop"
    for part in (bare, graph, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
    for field in ("producer_name", "producer_version"):
        bare.ClearField(field)
    for node in nodes_of(graph):
        for field in ("name", "doc_string", "metadata_props"):
            node.ClearField(field)
    used = {node.domain or "" for node in nodes_of(graph)} | {""}
    kept = [each for each in bare.opset_import if each.domain in used]
    del bare.opset_import[:]
    bare.opset_import.extend(kept)
    return bare


def _number(graph: GraphProto) -> None:
    short: dict[str, str] = {"": ""} | {
        value.name: value.name for value in (*graph.input, *graph.output)
    }

    def renamed(name: str) -> str:
        if name not in short:
            while (candidate := f"t{len(short):x}") in taken:
                short[candidate] = candidate
            short[name] = candidate
        return short[name]

    taken = set(short)
    for initializer in graph.initializer:
        initializer.name = renamed(initializer.name)
    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
