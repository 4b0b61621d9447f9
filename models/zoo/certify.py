"""Makes the certificates of the shipped files anew from the held-out data, without training.

    python -m models.zoo.certify [TASK ...]

A recipe writes its certificate itself, but for editions: those are made here. This is also for a
rule that changed, and for asking whether what ships still keeps what it promises.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from models import package
from models.build import build
from models.calibrate.certificate import Certificate
from models.calibrate.certify import Counting
from models.calibrate.scores import Logits
from models.describe import certificate_text
from models.manifest import Role
from models.predict import Predictor
from models.zoo.cascade import cascade_figures
from models.zoo.data import DataMissing, Dataset, Raw, load
from models.zoo.figures import ZOO, CascadeFigures, write_json
from models.zoo.garments.measure import certificate_anew
from models.zoo.packages import edition_parts, zoo_parts
from models.zoo.threshold import decide, tune_mask

GARMENTS = "garments"
"""Has measures of its own: its answers are boxes. Its figures do not change with a rule."""


class Terms(Struct, frozen=True):
    """What is promised of a task, and how its held-out data are cut."""

    eps: float
    split: str = "cut at random, seed 0"
    tune_groups: tuple[int, ...] = ()
    counting: Counting = "rows"


TERMS = {
    "apparel": Terms(0.005),
    "apparel-xs": Terms(0.005),
    "apparel-l": Terms(0.005),
    "activity": Terms(0.02, "by person: person 14 tunes, persons 5 and 11 calibrate", (14,)),
    "digits": Terms(0.02),
    "vibration": Terms(
        0.02, "by group: 16 machines tune, 400 others calibrate", tuple(range(128, 144)), "groups"
    ),
    "tickets": Terms(
        0.02, "by group: 40 authors tune, 400 others calibrate", tuple(range(300, 340)), "groups"
    ),
    "fraud": Terms(
        0.01,
        "by group: 400 customers tune, 1000 others calibrate",
        tuple(range(4000, 4400)),
        "groups",
    ),
}


class MadeEdition(Struct, frozen=True):
    """An edition's certificate."""

    name: str
    certificate: Certificate


class Made(Struct, frozen=True):
    """What was made anew for one task."""

    certificate: Certificate
    cascade: CascadeFigures
    editions: tuple[MadeEdition, ...] = ()


def make(task: str, dataset: Dataset) -> Made:
    """Certificates and cascade figures of a task's shipped files. Raises `ModelsError`."""
    terms = TERMS[task]

    def decided(edge: Logits) -> Certificate:
        return decide(
            edge,
            cloud_held,
            dataset.held_y,
            tune_mask(dataset, terms.tune_groups),
            eps=terms.eps,
            split=terms.split,
            groups=dataset.held_groups,
            counting=terms.counting,
        )

    with tempfile.TemporaryDirectory() as folder:
        parts = replace(zoo_parts(task), editions=edition_parts(task))
        built = build(parts, "1", Path(folder) / "package")
        predictors = [Predictor.load(package.read(built, role)) for role in Role]
        edge_held, cloud_held = (_outputs(one, dataset.held_x) for one in predictors)
        certificate = decided(edge_held)
        edge, cloud = (_outputs(one, dataset.test_x) for one in predictors)
        editions = []
        for one in parts.editions:
            alone = package.read(built, Role.EDGE).in_edition(one.name)
            predictor = Predictor.load(alone, runtime=one.runtime)
            # One by one, as a device asks: some runtimes compile another graph for a batch.
            held = np.stack([predictor.graph.run(sample) for sample in dataset.held_x])
            editions.append(MadeEdition(one.name, decided(held)))
    figures = cascade_figures(certificate, edge_held, edge, cloud, dataset.test_y)
    return Made(certificate, figures, tuple(editions))


def _outputs(predictor: Predictor, samples: Raw) -> Logits:
    outputs = []
    for start in range(0, len(samples), 64):
        outputs += predictor.graph.run_batch(list(samples[start : start + 64]))
    return np.stack(outputs)


def _refreshed(figures: Path, cascade: CascadeFigures) -> None:
    """The published figures with what the new certificate does."""
    held = msgspec.json.decode(figures.read_bytes(), type=dict[str, msgspec.Raw])
    held["cascade"] = msgspec.Raw(msgspec.json.encode(cascade))
    figures.write_bytes(msgspec.json.format(msgspec.json.encode(held), indent=2) + b"\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="models.zoo.certify", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=[*TERMS, GARMENTS], metavar="TASK")
    for task in parser.parse_args().tasks:
        try:
            if task == GARMENTS:
                certificate = certificate_anew(load("apparel"))
                write_json(ZOO / task / "certificate.json", certificate)
                print(f"{task}:\n{certificate_text(certificate)}", flush=True)
                continue
            made = make(task, load(task))
        except DataMissing as missing:
            print(missing, file=sys.stderr)
            return 1
        write_json(ZOO / task / "certificate.json", made.certificate)
        _refreshed(ZOO / task / "figures.json", made.cascade)
        print(f"{task}:\n{certificate_text(made.certificate)}\n  {made.cascade}", flush=True)
        for one in made.editions:
            write_json(ZOO / task / f"edition-{one.name}.json", one.certificate)
            print(f"{task}, {one.name}:\n{certificate_text(one.certificate)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
