"""Steps as a manifest declares them: one family a file, with what each makes of a kind.

No numpy here: a program that only reads manifests stays small. `compute` holds the arithmetic.
"""
