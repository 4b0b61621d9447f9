"""TLS identities: whom the device believes, who it is, and until when."""

import time
from collections.abc import Iterator
from pathlib import Path

from edge_agent.commands.checks.finding import Finding, Patient, broken, ok, warning
from sync.errors import SettingsError
from sync.transport.tls import context

SOON_S = 21 * 86400.0
_RENEW = "renew it: make another with the same authority, and put it in its place"


def tls(patient: Patient) -> Iterator[Finding]:
    """The files that `tls.*` names; nothing where no address asks for TLS."""
    loaded = patient.settings
    if not (loaded.gateway.startswith("https") or loaded.mqtt_tls):
        return
    try:
        context(loaded.tls)
    except SettingsError as error:
        yield broken("tls", str(error), "correct the path, or make the file readable")
        return
    named = {"tls.ca_file": loaded.tls.ca_file, "tls.client_cert": loaded.tls.client_cert}
    told = [one for name, path in named.items() if path for one in _dates(name, Path(path))]
    yield from told
    if not told:
        yield ok("tls", "believes the authorities this machine knows, and shows no identity")


def _dates(name: str, path: Path) -> Iterator[Finding]:
    from cryptography import x509

    now = time.time()
    found = x509.load_pem_x509_certificates(path.read_bytes())
    ends = min(one.not_valid_after_utc for one in found)
    until, left_s = f"{ends:%Y-%m-%d}", ends.timestamp() - now
    begins = max(one.not_valid_before_utc for one in found)
    if left_s <= 0:
        yield broken(name, f"{path} ended on {until}", _RENEW)
    elif begins.timestamp() > now:
        yield broken(name, f"{path} begins on {begins:%Y-%m-%d}", "set the clock, or wait")
    elif left_s < SOON_S:
        yield warning(name, f"{path} ends on {until}", _RENEW)
    else:
        yield ok(name, f"{path} holds until {until}")
