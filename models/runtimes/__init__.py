"""What runs a model file: one port (`base`), the twin, onnxruntime, OpenVINO.

`choose` opens one by name, `choice` measures candidates on this device and keeps the winner,
`artefacts` holds what the device made of a file so that it opens faster.
"""
