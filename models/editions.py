"""Which editions of a package keep their promise on this device, and why one does not.

An edition keeps it on the model files, preparation, runtime, provider and precision its certificate
is bound to. What this machine computes is another question: its golden answers tell.
"""

from collections.abc import Sequence

from models.calibrate.binding import binding, binding_of
from models.calibrate.certificate import Binding
from models.package import Package
from models.pipeline.declared import Model
from models.runtimes.base import Runtime
from models.runtimes.choose import installed
from models.runtimes.wish import RuntimeWish

EVERYTHING = "*"
"""To be avoided: all but a model's own runtime on the processor."""


def counting(whole: Package, wish: RuntimeWish) -> tuple[Package, ...]:
    """The editions whose promise can be kept here, the main one first; each as a package.

    A package with one edition has none to choose from.
    """
    if not whole.manifest.editions:
        return ()
    return tuple(one for one in whole.every_edition if _keeps(one, wish))


def _keeps(edition: Package, wish: RuntimeWish) -> bool:
    bound, pipeline = edition.manifest.certificate.bound, edition.pipeline
    if bound is None or not all(certified(edition, one, wish) for one in pipeline.models):
        return False
    return bound == binding_of(pipeline, bound.runtime, bound.provider, bound.precision)


def certified(whole: Package, node: Model, wish: RuntimeWish) -> Binding | None:
    """What the certificate holds this model to, where there is such a promise and it may run."""
    certificate = whole.manifest.certificate
    bound = certificate.bound
    if bound is None or not certificate.feasible or node.form == "twin":
        return None
    allowed = {name.strip() for name in wish.provider.split(",")}
    if bound.runtime not in installed() or bound.precision != wish.precision:
        return None
    if avoids(wish, bound.runtime, bound.provider, own=node.form):
        return None  # it crashes here
    return bound if allowed & {"auto", bound.provider} else None


def avoids(wish: RuntimeWish, runtime: str, provider: str, *, own: str) -> bool:
    """Whether somebody wants models not to run on this; `own` is what the file was written for."""
    if EVERYTHING in wish.avoid:
        return (runtime, provider) != (own, "cpu")
    return runtime in wish.avoid or provider in wish.avoid


def binding_difference(whole: Package, runtimes: Sequence[Runtime]) -> str | None:
    """Why the package's certificate does not speak of these runtimes; None where it does."""
    certificate = whole.manifest.certificate
    bound = certificate.bound
    if bound is None or not certificate.feasible:
        return None  # it says nothing of the one or the other
    here = binding(whole.pipeline, runtimes)
    if here == bound:
        return None
    for ours, certified, what in (
        (here.model_sha256, bound.model_sha256, "model file"),
        (here.preparation_sha256, bound.preparation_sha256, "preparation"),
    ):
        if ours != certified:
            return f"its certificate was made for another {what}; calibrate the package again"
    return (
        f"its certificate is bound to {bound.runtime} on {bound.provider} in {bound.precision}, "
        f"and here it runs on {here.runtime} on {here.provider} in {here.precision}; "
        "calibrate it there"
    )
