"""The larger parts of what a supervisor wires: ways to the gateway, doors, crew, ears, reports."""
