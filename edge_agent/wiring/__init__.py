"""The larger parts of what a supervisor wires: ways to the gateway, workers, ears, reports."""
