"""Float ONNX files to INT8 ones, and what that costs: `run.quantize` is the way in."""
