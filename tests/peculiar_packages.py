"""Packages that need something of the machine they run on: a source of features, leave to run code.

Their models are twins: what a model answers is what its input says.
"""

from pathlib import Path

import msgspec

from models.archive import Entry
from models.build import Chosen, Drawn, Half, Parts, build, file_ref
from models.calibrate.by_hand import by_hand
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Custom, Features, Gives, Model, Node, Pipeline
from models.pipeline.heads import Classify
from models.runtimes.twin import TwinFile

LABELS = ("honest", "fraud")
TASK = "sides"
SWAP = "import numpy as np\n\ndef swap(sample):\n    return np.ascontiguousarray(sample[::-1])\n"


def build_lookup(into: Path, version: str = "1", *, ttl_s: float = 60.0) -> Path:
    """Answers for a record {"customer": ...} by the two features `fine` and `odd` of it.

    The higher of the two says the label. The default says honest, and is sure of it.
    """

    def half(role: Role) -> Half:
        looked_up = Features(
            "history", "who", "customers", ("fine", "odd"), (4.0, 0.0), ttl_s, "customer"
        )
        twin = TwinFile(2)
        return _half(role, twin, ("history",), looked_up)

    return build(
        Parts(
            name="lookup",
            task=TASK,
            given=TensorSpec("who", "record"),
            answer=Classify(LABELS),
            edge=half(Role.EDGE),
            cloud=half(Role.CLOUD),
            certificate=by_hand(note="a twin keeps no promise", threshold=0.8, method="by hand"),
            golden=Chosen((b'{"customer": "nobody"}',)),
        ),
        version,
        into,
    )


ACTS = """
import os, time
import numpy as np

kept = []

def act(sample):
    deed = float(sample[0])
    if deed == {SLEEPS}:
        time.sleep(60)
    if deed == {SPINS}:
        while True:
            pass
    if deed == {CRASHES}:
        os.kill(os.getpid(), 11)
    if deed == {LEAKS}:
        kept.append(np.ones({LEAK_BYTES}, np.uint8))
    if deed == {IS_NAN}:
        return np.full(2, np.nan, np.float32)
    time.sleep({TAKES_S})
    return np.ascontiguousarray(sample[::-1])
"""
SLEEPS, SPINS, CRASHES, LEAKS, IS_NAN = 101.0, 102.0, 103.0, 104.0, 105.0
LEAK_BYTES = 2 << 20


def build_acting(
    into: Path, version: str = "1", *, task: str = "acts", first: str = "", takes_s: float = 0.0
) -> Path:
    """As `build_custom`, and does what its first number says: see `ACTS`.

    `first` is code that runs when the package is loaded; each run takes `takes_s` at the least.
    """
    named = {
        "SLEEPS": SLEEPS,
        "SPINS": SPINS,
        "CRASHES": CRASHES,
        "LEAKS": LEAKS,
        "IS_NAN": IS_NAN,
        "TAKES_S": takes_s,
        "LEAK_BYTES": LEAK_BYTES,
    }
    source = ACTS
    for name, number in named.items():
        source = source.replace("{" + name + "}", str(number))

    def half(role: Role) -> Half:
        code = Entry("act.py", f"{first}\n{source}".encode())
        act = Custom("act", ("numbers",), file_ref(code), "act", Gives("turned", (2,)))
        return _half(role, TwinFile(2), ("act",), act, code)

    return build(
        Parts(
            name="acting",
            task=task,
            given=TensorSpec("numbers", "float32", (2,), "C"),
            answer=Classify(LABELS),
            edge=half(Role.EDGE),
            cloud=half(Role.CLOUD),
            certificate=by_hand(note="a twin keeps no promise", threshold=0.8, method="by hand"),
            golden=Drawn(-6.0, 6.0, count=1),
        ),
        version,
        into,
    )


def build_custom(into: Path, version: str = "1") -> Path:
    """Answers the label of the lowest of two numbers, because its own code turns them round."""

    def half(role: Role) -> Half:
        code = Entry("swap.py", SWAP.encode())
        swap = Custom("swap", ("numbers",), file_ref(code), "swap", Gives("swapped", (2,)))
        return _half(role, TwinFile(2), ("swap",), swap, code)

    return build(
        Parts(
            name="custom",
            task=TASK,
            given=TensorSpec("numbers", "float32", (2,), "C"),
            answer=Classify(LABELS),
            edge=half(Role.EDGE),
            cloud=half(Role.CLOUD),
            certificate=by_hand(note="a twin keeps no promise", threshold=0.8, method="by hand"),
            golden=Drawn(-6.0, 6.0, count=1),
        ),
        version,
        into,
    )


def _half(role: Role, twin: TwinFile, after: tuple[str, ...], node: Node, *others: Entry) -> Half:
    entry = Entry(f"{role.value}.json", msgspec.json.encode(twin))
    model = Model("model", after, file_ref(entry), (Gives("logits", (2,)),), "twin")
    return Half(Pipeline((node, model), "model"), (entry, *others))
