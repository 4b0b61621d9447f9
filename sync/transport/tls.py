"""TLS on a link: whom this device believes, who it says it is, and what is wrong in words.

1. A server's identity is checked always: its chain, its dates, its name. Nothing turns that off; a
   private authority is named by `ca_file`, and then no other is believed.
2. What fails is `LinkUntrusted`, and says which of these it was. A clock that stands before this
   software was made is named as the likely cause: every identity is then "not yet valid".
"""

import ssl
import time

from msgspec import Struct

from sync.errors import LinkDown, LinkUntrusted, SettingsError

MADE_AT = 1_767_225_600.0
"""The beginning of 2026: no true clock stands before it."""
_NOT_YET, _EXPIRED = 9, 10
_UNKNOWN = (2, 18, 19, 20, 21)


class TlsFiles(Struct, frozen=True, forbid_unknown_fields=True):
    """Files in PEM; empty for none."""

    ca_file: str = ""
    """Who is believed; empty for the authorities this machine knows."""
    client_cert: str = ""
    """The identity this device shows, with its chain."""
    client_key: str = ""
    """Its private key; empty where it stands in the same file."""


def context(files: TlsFiles) -> ssl.SSLContext:
    """For connections to servers. Raises `SettingsError` naming the file that cannot be used."""
    name = "tls.ca_file"
    path = files.ca_file
    try:
        made = ssl.create_default_context(cafile=files.ca_file or None)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if files.client_cert:
            name, path = "tls.client_cert", files.client_cert
            made.load_cert_chain(files.client_cert, files.client_key or None, password=_no_password)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{name}: {path} cannot be used: {error}; name a PEM file") from error
    return made


def trouble(place: str, error: BaseException, now: float | None = None) -> LinkDown:
    """What an error of a connection to `place` means; `now` is seconds since 1970, else the clock.

    An identity that was refused may stand anywhere in the error's causes.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__ or found.__context__
    match found:
        case ssl.SSLCertVerificationError():
            return LinkUntrusted(f"{place}: {_words(found, time.time() if now is None else now)}")
        case ssl.SSLError(reason=str(reason)) if "ALERT" in reason:
            return LinkUntrusted(
                f"{place} refused this device's own identity ({reason.lower()}); check"
                " tls.client_cert, its dates, and whether the server believes its authority"
            )
        case ssl.SSLError(reason=str(reason)) if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return LinkDown(f"{place} does not speak TLS; correct the address, or use http://")
        case _:
            return LinkDown(f"{place}: {error}")


def _words(error: ssl.SSLCertVerificationError, now: float) -> str:
    if error.verify_code in (_NOT_YET, _EXPIRED) and now < MADE_AT:
        day = time.strftime("%Y-%m-%d", time.gmtime(max(now, 0.0)))
        return (
            f"the server's identity cannot be checked: this device's clock says {day}, which"
            " cannot be; set the clock"
        )
    match error.verify_code:
        case 10:
            return "the server's identity has expired; renew it there, or correct this clock"
        case 9:
            return "the server's identity is not valid yet; correct the clock here or there"
        case 62 | 64:
            return (
                f"the server's identity is another's ({error.verify_message}); use the address it"
                " was made out for, or have it made out for this one"
            )
        case code if code in _UNKNOWN:
            return (
                f"the server's identity comes from an authority unknown here"
                f" ({error.verify_message}); name that authority's file (tls.ca_file, enroll --ca)"
            )
        case _:
            return f"the server's identity was refused: {error.verify_message}"


def _no_password() -> str:
    """A prompt on a device would wait for ever."""
    raise ValueError("its private key is encrypted, and nobody is there to type a password")
