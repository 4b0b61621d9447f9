"""Who the device is: settings, token, key, TLS."""

import stat
from collections.abc import Iterator

from edge_agent import settings
from edge_agent.commands.checks.finding import Finding, Patient, broken, ok, warning
from edge_agent.errors import NotEnrolled
from sync.errors import TrustError


def identity(patient: Patient) -> Iterator[Finding]:
    """Whether it knows its name, its gateway and its secrets."""
    loaded = patient.settings
    if not (loaded.gateway or loaded.device):
        alone = "this device has no gateway and answers alone"
        if patient.status is not None:
            yield ok("identity", alone)
        else:
            yield warning(
                "identity",
                alone,
                "nothing, if that is meant; else enrol it (longstop-gateway device add NAME)",
            )
        return
    try:
        settings.check_enrolled(loaded, patient.data)
        settings.token(loaded, patient.data)
    except NotEnrolled as error:
        yield broken("identity", str(error), "run the line of `longstop-gateway device add NAME`")
        return
    path = settings.token_file(loaded, patient.data)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield warning("token", f"{path} may be read by others (mode {mode:o})", f"chmod 600 {path}")
    yield from _key(loaded.public_key)
    yield ok("identity", f"{loaded.device} of {loaded.gateway}")


def _key(public_key: str) -> Iterator[Finding]:
    from sync.trust.keys import load_public

    try:
        load_public(public_key)
    except TrustError as error:
        yield broken(
            "signing key", str(error), "enrol again with the key the gateway's owner gives"
        )
    else:
        yield ok("signing key", "can be read: packages are checked against it")
