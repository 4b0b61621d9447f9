"""The door of the agent: it opens only when `models` and `sync` are the ones it came with.

Both names are other people's packages too. A foreign one on the path would run in place of ours,
at best with an ImportError far from the cause, so the door looks before it imports anything.
"""

import importlib.util
import sys
from pathlib import Path

SIBLINGS = ("models", "sync")


def foreign_siblings(home: Path, names: tuple[str, ...] = SIBLINGS) -> list[str]:
    """One sentence for each package this interpreter would take from elsewhere than `home`."""
    wrong = []
    for name in names:
        ours = home / name
        spec = importlib.util.find_spec(name)
        if spec is None:
            wrong.append(
                f"module {name!r} is missing, it belongs at {ours}; install longstop again"
            )
        elif spec.origin is None or Path(spec.origin).resolve().parent != ours.resolve():
            theirs = spec.origin or next(iter(spec.submodule_search_locations or ()), "no file")
            wrong.append(
                f"module {name!r} resolves to {theirs}, not to {ours};"
                " start the agent from its own environment"
            )
    return wrong


def main() -> int:
    wrong = foreign_siblings(Path(__file__).resolve().parent.parent)
    for sentence in wrong:
        print(f"longstop-agent: {sentence}", file=sys.stderr)
    if wrong:
        return 1
    from edge_agent import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
