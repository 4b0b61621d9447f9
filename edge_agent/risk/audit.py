"""Which requests are audited: a keyed hash of the request id says so, before the model has run.

1. The choice depends on the id and the device's secret alone: not on the answer, its confidence,
   the link or the time. So the audited requests are a fair sample of all of them.
2. The same id is audited always or never, whichever worker is asked and however often; while the
   device spares itself, fewer of the same ids are.
3. Nobody outside the device can make an id that is audited, or one that is not: the secret stays
   here.
"""

import hashlib

KEY_BYTES = 32
_WHOLE = 1 << 64


class Audits:
    """Asked once for each request. `share` of all ids are audited; 0 audits nothing."""

    def __init__(self, key: bytes, share: float) -> None:
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share must lie between 0 and 1, not {share}")
        self._key = key
        self._share = share
        self._below = round(share * _WHOLE)

    def rarer(self, part: float) -> None:
        """Audit this part of the usual share from now on: fewer of the same ids, chosen as fairly.

        For a device that has to spare itself; 1 for all of them again.
        """
        self._below = round(part * self._share * _WHOLE)

    def __call__(self, request_id: str) -> bool:
        if not self._below:
            return False
        digest = hashlib.blake2b(
            request_id.encode(errors="surrogatepass"), digest_size=8, key=self._key
        ).digest()
        return int.from_bytes(digest, "big") < self._below
