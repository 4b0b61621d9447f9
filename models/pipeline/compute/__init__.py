"""What declared steps and nodes compute, one family a file, on one sample without a batch axis."""
