"""What happens between a raw input and logits: declared in the manifest, one code everywhere.

`declared` holds the structs, `check` follows dtype and shape through them, `steps` computes,
`graph` puts steps and model together.
"""
