"""Small trained models with the recipes that made them, and the loader of their data.

Each task has a folder: `recipe.py`, the weights `edge.onnx` and `cloud.onnx`, the measured
`figures.json`, and `certificate.json` with the threshold of the cascade and what it promises.
"""
