"""One port (`base`), three ways to the gateway: memory (the twin), HTTP, MQTT."""
