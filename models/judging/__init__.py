"""A package asked about samples of known truth: what calibrating and evaluating rest on.

`answered` runs both halves, `judged` says who was wrong; `calibrating`, `evaluating`, `exploring`
are the shells of three commands.
"""
