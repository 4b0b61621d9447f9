"""Trains the localisers of garments and measures the package of two models.

Run it with `python -m models.zoo.garments.recipe`, or `./just train garments`.

1. Scenes are made of apparel's pictures (`scenes`): those a localiser learns from of the training
   part, tune and calibration scenes of the held-out part, test scenes of the test part.
2. A small localiser for the device ships as INT8; what makes boxes of its map stays in FP32, where
   8 bits would cost a quarter of a pixel. A larger one for the cloud ships as FP32.
3. What was found is named by the classifiers of `apparel`, as they ship; neither learns anything
   new.
4. Everything is judged through the package (`package.toml`), as device and gateway run it.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from models.manifest import Role
from models.quantize.onnx_static import write_static
from models.quantize.options import Settings
from models.zoo import stages
from models.zoo.data import Dataset, load
from models.zoo.export import OPSET, fused, strip
from models.zoo.figures import ZOO, write_json
from models.zoo.fitting import Cycle, Samples, fit, one_thread
from models.zoo.garments import drawn
from models.zoo.garments.figures import HERE
from models.zoo.garments.localiser import PLACES, Decoded, Localiser, loss, prepare, squares
from models.zoo.garments.measure import Net, measure
from models.zoo.garments.scenes import SIDE, scenes
from models.zoo.lessons import Trained
from models.zoo.networks import parameter_count

SEED = 0
WIDTHS = {Role.EDGE: (8, 16, 24), Role.CLOUD: (12, 24, 48)}
CYCLES = {
    Role.EDGE: Cycle(epochs=14, peak=0.05, rise=0.2, weight_decay=2e-4),
    Role.CLOUD: Cycle(epochs=8, peak=0.05, rise=0.2, weight_decay=2e-4),
}
SCENES_A_SET, SETS, FIRST_SET = 20_000, 4, 70_000
"""Training scenes; the epochs take the sets in turn."""
INT8_SCENES = 500
DECODING = "/[!b]*"
"""Names of all nodes but those of the localiser's body."""


def training_set(dataset: Dataset, number: int) -> Samples:
    """One of the sets, each picture in it at most once."""
    seed = FIRST_SET + number
    chosen = np.random.default_rng(seed).permutation(len(dataset.train_y))[:SCENES_A_SET]
    made = scenes(dataset.train_x[chosen], dataset.train_y[chosen], seed)
    return Samples(torch.from_numpy(made.pictures), squares(torch.from_numpy(made.boxes)))


def network_of(role: Role) -> nn.Module:
    """20 thousand parameters on the device, 80 thousand in the cloud."""
    return Localiser(*WIDTHS[role]).to(memory_format=torch.channels_last)


def train(work: Path, role: Role, sets: list[Samples]) -> Trained:
    """One localiser, trained once and kept."""
    kept = work / f"{role.value}.pt"
    if not kept.exists():
        one_thread(SEED)
        network = network_of(role)
        seconds = fit(
            network,
            lambda epoch: sets[epoch % SETS],
            CYCLES[role],
            prepare=prepare,
            loss=loss,
            seed=SEED,
            name=f"garments {role.value}",
        )
        stages.keep(kept, Trained(network, SEED, CYCLES[role].epochs, seconds))
    return stages.kept(kept, partial(network_of, role))


def write_localiser(localiser: nn.Module, path: Path) -> None:
    """FP32 ONNX: `x` to `boxes` and `scores`."""
    torch.onnx.export(
        fused(Decoded(localiser)),
        (torch.zeros(1, 1, SIDE, SIDE),),
        str(path),
        input_names=["x"],
        output_names=["boxes", "scores"],
        opset_version=OPSET,
        dynamic_axes={name: {0: "n"} for name in ("x", "boxes", "scores")},
        dynamo=False,
    )
    # The exporter knows these sides as expressions; whoever reads the file wants numbers.
    model = onnx.load(str(path))
    for value, last in zip(model.graph.output, (4, 1), strict=True):
        for side, size in zip(value.type.tensor_type.shape.dim[1:], (PLACES**2, last), strict=True):
            side.dim_value = size
    onnx.save(model, str(path))


def write_files(trained: dict[Role, Trained], sets: list[Samples], out: Path) -> None:
    """Both localisers as they ship, and the golden pictures."""
    cloud_path = out / "localiser-cloud.onnx"
    write_localiser(trained[Role.CLOUD].network, cloud_path)
    strip(cloud_path)
    ranges = prepare(sets[0].inputs[:INT8_SCENES]).contiguous().numpy()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "fp32.onnx"
        write_localiser(trained[Role.EDGE].network, whole)
        write_static(whole, out / "localiser-edge.onnx", [ranges], Settings(keep=(DECODING,)))
    (out / "golden").mkdir(exist_ok=True)
    for name, picture in drawn.pictures().items():
        (out / "golden" / f"{name}.png").write_bytes(picture)


def main() -> None:
    parser = argparse.ArgumentParser(prog="models.zoo.garments.recipe")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--work", type=Path, default=ZOO / ".work" / "garments")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    dataset = load("apparel")
    print(f"garments: pictures of {dataset.sha256}, seed {SEED}", flush=True)
    sets = [training_set(dataset, number) for number in range(SETS)]
    trained = {role: train(arguments.work, role, sets) for role in Role}
    write_files(trained, sets, arguments.out)
    nets = {
        role: Net(one.seed, one.epochs, one.cpu_seconds, parameter_count(one.network))
        for role, one in trained.items()
    }
    torch_version = {"torch": str(torch.__version__)}
    figures, certificate = measure(dataset, nets, arguments.out, torch_version)
    write_json(arguments.out / "figures.json", figures)
    write_json(arguments.out / "certificate.json", certificate)
    print(figures, certificate, sep="\n", flush=True)


if __name__ == "__main__":
    main()
