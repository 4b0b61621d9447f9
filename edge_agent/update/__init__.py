"""How a device comes by the package version it should run, and never loses the one it has."""
