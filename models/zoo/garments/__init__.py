"""Find a garment in a cluttered picture, then say what it is: a graph of two models."""
