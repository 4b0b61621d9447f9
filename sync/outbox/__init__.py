"""What a device still owes the cloud, kept through power cuts until the cloud says it has it.

`delivery` decides what to send, `store` is the database, `run` joins
them to a loop and a transport.
"""
