"""A declared pipeline ready to run: the plan as one list of instructions over numbered places.

1. Everything that needs no model comes first, so preparing can be told from running.
2. A branch only one way of a switch needs is a list of its own, done when that way is taken.
3. Samples run together where the graph has one model and every sample reaches it in one shape; the
   rest of the graph is done sample by sample, and gives the same either way.
4. Each node is compiled once, however many ways lead through it: it has one cache, one module.
5. Shapes that only a sample can tell may fail to meet: that is the input's fault, and named so.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from models.errors import RuntimeFailed, WrongShape
from models.pipeline.compute.families import compile_steps
from models.pipeline.declared import Features, Model, Node, Pipeline, Steps, Switch
from models.pipeline.kinds import Kind
from models.pipeline.nodes import Plain, Resources, compile_node, takes
from models.pipeline.plan import needs, plan
from models.pipeline.ports import check_ports
from models.pipeline.values import Array, Value, array
from models.pipeline.ways import after_models, numbered, unconditional
from models.runtimes.base import Runtime

Places = list[Value]
"""The values of one sample under way; a place is `_ABSENT` until its node has been computed."""
_ABSENT: Value = {}
_ONE = (1,)
Instruction = Callable[[Places], None]
Open = Callable[[Model], Runtime]
"""Opens a model file. Raises `RuntimeFailed`."""


class Graph:
    """From raw samples to outputs. Samples are taken to have passed `check_input`."""

    def __init__(
        self,
        pipeline: Pipeline,
        input_name: str,
        given: Kind,
        open_model: Open,
        resources: Resources,
    ) -> None:
        """Raises `Refused` for a bad graph and `ModelsError` for a file that does not fit it."""
        self._plan = plan(pipeline, input_name, given)
        self._place = numbered(self._plan)
        self._blank: Places = [_ABSENT] * len(set(self._place.values()))
        self._resources = resources
        self._instructions: dict[str, Instruction] = {}
        self._runtimes: dict[str, Runtime] = {}
        for node in self._plan.order:
            if isinstance(node, Model):
                runtime = open_model(node)
                check_ports(node, self._plan, runtime)
                self._runtimes[node.id] = runtime
        self._input = self._place[input_name]
        self._output = self._place[pipeline.output]
        self.output = self._plan.kind_of(pipeline.output)
        self._shape = (None, *self.output.shape) if self.output.many else self.output.shape
        self._ages = tuple(
            self._place[f"{node.id}.age_s"]
            for node in self._plan.order
            if isinstance(node, Features)
        )
        order = unconditional(self._plan.order, pipeline.output)
        after = after_models(self._plan.order)
        late = [node for node in order if node.id in after]
        self._early = [self._instruction(node) for node in order if node.id not in after]
        self._late = [self._instruction(node) for node in late]
        self._together = self._batched(late)

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """In the order the models run."""
        return tuple(self._runtimes.values())

    def runtime_of(self, node: str) -> Runtime:
        """What runs the model of that name."""
        return self._runtimes[node]

    @property
    def together(self) -> bool:
        """Whether samples can share a run of its model."""
        return self._together is not None

    def prepare(self, sample: Value) -> Places:
        """One raw sample as far as no model is needed."""
        places = self._blank.copy()
        places[self._input] = sample
        for instruction in self._early:
            instruction(places)
        return places

    def finish(self, prepared: Places) -> Array:
        """The output of a prepared sample, without batch axis.

        Raises `RuntimeFailed`, `InputError`.
        """
        for instruction in self._late:
            instruction(prepared)
        output = array(prepared[self._output])
        if output.shape != self._shape:
            self._check_output(output)
        return output

    def finish_all(self, prepared: Sequence[Places]) -> list[Array]:
        """The outputs of prepared samples, in one batch where the graph allows it."""
        if self._together is None or len(prepared) < 2:
            return [self.finish(places) for places in prepared]
        node, rest = self._together
        feeds = [
            np.stack([array(places[self._place[ref]]) for places in prepared]) for ref in node.after
        ]
        targets = self._outputs(node)
        outputs = self._run(node, feeds)
        for row, places in enumerate(prepared):
            for target, output in zip(targets, outputs, strict=True):
                places[target] = output[row]
            for instruction in rest:
                instruction(places)
        found = [array(places[self._output]) for places in prepared]
        for output in found:
            self._check_output(output)
        return found

    def feature_age_s(self, places: Places) -> float | None:
        """How old the oldest features of a finished sample are; NaN when a default was used.

        None when the pipeline looks up none.
        """
        if not self._ages:
            return None
        ages = [places[at] for at in self._ages]
        known = [float(array(age)[0]) for age in ages if age is not _ABSENT]
        if not known:
            return None
        return math.nan if any(map(math.isnan, known)) else max(known)

    def feeds(self, sample: Value, model: str) -> tuple[Array, ...]:
        """What one model of the graph is given for a raw sample, without batch axis.

        For calibrating and measuring a file alone; the model itself is not run, and it need not be
        on the way this sample takes. Raises `KeyError` for no such model.
        """
        node = next((one for one in self._plan.order if one.id == model), None)
        if not isinstance(node, Model):
            raise KeyError(model)
        places = self.prepare(sample)
        for ref in node.after:
            self._branch(ref)(places)
        return tuple(array(places[self._place[ref]]) for ref in node.after)

    def run(self, sample: Value) -> Array:
        """The output of one raw sample."""
        return self.finish(self.prepare(sample))

    def run_batch(self, samples: Sequence[Value]) -> list[Array]:
        """The outputs of raw samples, each prepared alone."""
        return self.finish_all([self.prepare(sample) for sample in samples])

    def _check_output(self, output: Array) -> None:
        """Where a side was left open, or a file gives another shape than it declares."""
        if len(output.shape) != len(self._shape) or any(
            side is not None and side != found
            for side, found in zip(self._shape, output.shape, strict=True)
        ):
            raise RuntimeFailed(
                f"the output has shape {list(output.shape)}, {self.output.words()} was declared; "
                "the package does not fit its model, build it again"
            )

    def _instruction(self, node: Node) -> Instruction:
        made = self._instructions.get(node.id)
        if made is None:
            made = self._instructions[node.id] = self._made(node)
        return made

    def _made(self, node: Node) -> Instruction:
        if isinstance(node, Steps):
            return self._stepped(node)
        if isinstance(node, Model):
            return self._run_list(node) if self._plan.kind_of(node.id).many else self._run_one(node)
        if isinstance(node, Switch):
            return self._take(node)
        return self._compute(node)

    def _stepped(self, node: Steps) -> Instruction:
        source, target = self._place[node.after], self._place[node.id]
        compute = compile_steps(node.steps, self._plan.kind_of(node.after))

        def instruction(places: Places) -> None:
            try:
                places[target] = compute(places[source])
            except ValueError as error:
                raise _unfit(node, error) from error

        return instruction

    def _compute(self, node: Plain) -> Instruction:
        compute = compile_node(node, self._plan, self._resources)
        targets = self._outputs(node)
        needed = tuple(self._place[ref] for ref in needs(node))

        def instruction(places: Places) -> None:
            try:
                values = compute(tuple(places[at] for at in needed))
            except (ValueError, IndexError) as error:
                raise _unfit(node, error) from error
            for at, value in zip(targets, values, strict=True):
                places[at] = value

        return instruction

    def _run_one(self, node: Model) -> Instruction:
        needed = tuple(self._place[ref] for ref in node.after)
        targets = self._outputs(node)
        if len(needed) == len(targets) == 1:  # the commonest model, without a loop
            (source,), (target,), run = needed, targets, self._runtimes[node.id].run

            def alone(places: Places) -> None:
                (output,) = run((array(places[source])[None],))
                if output.shape[:1] != _ONE:
                    raise _unbatched(node, 0, output, 1)
                places[target] = output[0]

            return alone

        def instruction(places: Places) -> None:
            outputs = self._run(node, [array(places[at])[None] for at in needed])
            for at, output in zip(targets, outputs, strict=True):
                places[at] = output[0]

        return instruction

    def _run_list(self, node: Model) -> Instruction:
        needed = tuple(self._place[ref] for ref in node.after)
        targets = self._outputs(node)
        # Of no crops no model is asked; a side nobody knows is 1 there, so that it can be read.
        nothing = [
            np.empty((0, *(side or 1 for side in gives.shape)), gives.dtype) for gives in node.gives
        ]

        def instruction(places: Places) -> None:
            feeds = [array(places[at]) for at in needed]
            if len({len(feed) for feed in feeds}) > 1:
                raise _unfit(node, f"lists of {', '.join(str(len(feed)) for feed in feeds)} met")
            outputs = self._run(node, feeds) if len(feeds[0]) else [one.copy() for one in nothing]
            for at, output in zip(targets, outputs, strict=True):
                places[at] = output

        return instruction

    def _run(self, node: Model, feeds: Sequence[Array]) -> tuple[Array, ...]:
        outputs = self._runtimes[node.id].run(feeds)
        for at, output in enumerate(outputs):
            if output.shape[:1] != feeds[0].shape[:1]:
                raise _unbatched(node, at, output, len(feeds[0]))
        return outputs

    def _take(self, node: Switch) -> Instruction:
        on, target = self._place[node.on], self._place[node.id]
        then, otherwise = self._branch(node.then), self._branch(node.otherwise)
        if_so, if_not = self._place[node.then], self._place[node.otherwise]

        def instruction(places: Places) -> None:
            try:
                goes_then = takes(node, places[on])
            except ValueError as error:
                raise _unfit(node, error) from error
            if goes_then:
                then(places)
                places[target] = places[if_so]
            else:
                otherwise(places)
                places[target] = places[if_not]

        return instruction

    def _branch(self, ref: str) -> Instruction:
        """All that a reference needs and that is not there yet."""
        parts = [
            (self._place[node.id], self._instruction(node))
            for node in unconditional(self._plan.order, ref)
        ]

        def instruction(places: Places) -> None:
            for at, one in parts:
                if places[at] is _ABSENT:  # else the output needs it too, or an outer switch did it
                    one(places)

        return instruction

    def _outputs(self, node: Node) -> tuple[int, ...]:
        """The places a node fills, in the order it gives its values."""
        mine = (at for ref, at in self._place.items() if ref.partition(".")[0] == node.id)
        return tuple(dict.fromkeys(mine))

    def _batched(self, late: Sequence[Node]) -> tuple[Model, list[Instruction]] | None:
        """The one model samples can share, and what comes after it."""
        if len(self._runtimes) != 1 or not late or not isinstance(late[0], Model):
            return None
        kinds = [self._plan.kind_of(ref) for ref in late[0].after]
        if any(kind.many or None in kind.shape for kind in kinds):
            return None
        return late[0], self._late[1:]


def _unfit(node: Node, why: ValueError | IndexError | str) -> WrongShape:
    return WrongShape(
        f"node {node.id!r} cannot go on with this input: {why}; send one of another size"
    )


def _unbatched(node: Model, at: int, output: Array, count: int) -> RuntimeFailed:
    return RuntimeFailed(
        f"model {node.id!r} gave {node.gives[at].name!r} of shape {list(output.shape)} for "
        f"{count} samples; export it with a batch axis in front"
    )
