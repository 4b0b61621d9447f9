"""The MQTT broker this gateway owns as a child process, and the gateway's own connection to it."""
