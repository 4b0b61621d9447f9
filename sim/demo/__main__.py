"""`python -m sim.demo`."""

import sys

from sim.demo.cli import main

if __name__ == "__main__":
    sys.exit(main())
