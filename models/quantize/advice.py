"""Which file to ship where, in sentences, from what was measured. Pure.

Rules:
1. Quality first: an INT8 file that disagrees more than was asked for is not recommended, and no
   file is for a runtime on which it gives other labels than on the first.
2. Then time, per runtime: within a twentieth two files are equally fast.
3. Where several runtimes are fit, a certificate on each (an edition) lets every device take the
   faster. Both files ship where one runtime is served better by the one and another by the other.
4. Where INT8 is not slower it ships, because it is smaller; where it is slower FP32 ships, and the
   bytes that costs are said.
"""

from collections.abc import Mapping
from math import isfinite

from models.quantize.compare import FileRow, RuntimeRow, Table

SAME = 0.05
"""Ratios this near to 1 are equal: what a second run on a busy machine may differ by."""


def advice(table: Table, target: float) -> str:
    """What to ship, for a table of one FP32 and one INT8 file; `target` is a share of labels."""
    whole, small = table.files
    if not isfinite(small.relative_error):
        return f"Ship {whole.file}: INT8 gives values that are not finite. Try another --method."
    if small.agreement is not None and small.agreement < target:
        return (
            f"Ship {whole.file}: INT8 gives another label for "
            f"{100 * (1 - small.agreement):.2f} % of the samples and "
            f"{100 * (1 - target):.2f} % is the limit. Try --sensitivity, or another --method."
        )
    first = table.runs[0].runtime
    pairs = list(zip(table.runs[::2], table.runs[1::2], strict=True))
    sentences = []
    fit: list[RuntimeRow] = []
    chosen: dict[str, str] = {}
    for floats, integers in pairs:
        strange = _apart(floats, whole.file, first, target)
        if strange is not None:
            sentences.append(f"Ship neither file for {floats.runtime}: {strange}.")
            continue
        fit.append(floats)
        strange = _apart(integers, small.file, first, target)
        if strange is not None:
            sentences.append(f"On {floats.runtime} ship {whole.file}: {strange}.")
            chosen[floats.runtime] = whole.file
            continue
        fit.append(integers)
        chosen[integers.runtime] = whole.file if integers.ratio > 1 + SAME else small.file
        sentences.append(_where(integers, whole, small))
    fastest = min(fit, key=lambda row: row.median_us)
    if len(pairs) > 1:
        file = whole if fastest.precision == "FP32" else small
        sentences.append(
            f"The fastest of all here is {file.file} on {fastest.runtime} "
            f"({fastest.median_us:.1f} us)."
        )
    sentences += _editions(chosen)
    sentences.append(f"{_bytes(whole, small)} Other processors differ: measure on the device.")
    return " ".join(sentences)


def _apart(row: RuntimeRow, file: str, first: str, target: float) -> str | None:
    """In words, that a file gives other labels on this runtime than on the first; None if not."""
    shares = ((row.across, f"than on {first}"), (row.agreement, f"than FP32 on {first}"))
    for share, other in shares:
        if share is not None and share < target:
            return (
                f"there {file} gives another label {other} for {100 * (1 - share):.2f} % of the "
                f"samples, and {100 * (1 - target):.2f} % is the limit"
            )
    return None


def _where(row: RuntimeRow, whole: FileRow, small: FileRow) -> str:
    if row.ratio > 1 + SAME:
        return (
            f"On {row.runtime} ship {whole.file}: INT8 takes {row.ratio:.2f} times as long; ship "
            f"{small.file} only where bytes matter more than microseconds."
        )
    if row.ratio < 1 - SAME:
        return f"On {row.runtime} ship {small.file}: it takes {row.ratio:.2f} times as long."
    return f"On {row.runtime} ship {small.file}: it is as fast as FP32."


def _editions(chosen: Mapping[str, str]) -> list[str]:
    """How one package serves devices with the one runtime and with the other."""
    if len(chosen) < 2:
        return []
    if len(set(chosen.values())) == 1:
        file, names = next(iter(chosen.values())), " and ".join(chosen)
        return [f"One package serves both with {file} certified on {names} as editions."]
    where = ", ".join(f"{file} on {name}" for name, file in chosen.items())
    both = f"Shipping both files pays where devices differ: certify {where} as editions, and each"
    return [f"{both} device takes the faster one it has."]


def _bytes(whole: FileRow, small: FileRow) -> str:
    if small.size >= whole.size:
        return f"INT8 saves no bytes ({small.size:,} against {whole.size:,})."
    return f"INT8 is {whole.size / small.size:.1f} times smaller."
