"""What runs a model file: one port (`base`), the twin, onnxruntime. `choose` picks one by name."""
