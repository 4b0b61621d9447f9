"""Holds the device to its budgets, and makes it do less before it gets too hot to answer."""
