"""Small trained models with the recipes that made them, and the loader of their data.

Each task has a folder: `recipe.py`, the weights `edge.onnx` and `cloud.onnx`, the measured
`figures.json`, and `decision.json` with the temperature and threshold of the cascade.
"""
