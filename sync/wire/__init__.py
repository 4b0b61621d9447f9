"""What device and gateway say to each other: messages (`v1`), their bytes (`codec`), topics."""
