"""A package over a whole file or folder: the same pipelines, the same rule, no network.

`run` does it, `score` answers one piece, `journal` keeps what is finished, `output` writes it,
`progress` says how far it is.
"""
