"""`longstop-gateway serve`."""

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_gateway.commands.saying import print_json
from cloud_gateway.commands.verbs import verb
from cloud_gateway.settings import PREFIX, Settings
from sync import settings as grammar

if TYPE_CHECKING:
    from cloud_gateway.commands.verbs import Verbs
    from cloud_gateway.shapes import Serving


def arguments(verbs: "Verbs") -> None:
    serve = verb(verbs, "serve", _serve, "Serve devices, the page and the API until Ctrl-C")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="HTTP port, 0 for any free one (8080)")
    serve.add_argument("--mqtt-port", type=int, help="MQTT port, 0 for any free one (1883)")
    serve.add_argument(
        "--broker",
        choices=("auto", "mosquitto", "amqtt", "none"),
        help="which MQTT broker to start; auto takes mosquitto where it is installed (auto)",
    )
    serve.add_argument("--tls-cert", metavar="FILE", help="identity in PEM: serve HTTPS")
    serve.add_argument("--tls-key", metavar="FILE", help="its private key in PEM")
    serve.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    serve.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="one setting; may be repeated"
    )
    serve.add_argument(
        "--log-level", default="warning", choices=("debug", "info", "warning", "error")
    )


def _serve(options: argparse.Namespace) -> None:
    import uvloop

    from cloud_gateway.serving import serve

    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    settings = _settings(options)

    def say(serving: "Serving") -> None:
        if options.json:
            print_json(serving)
            return
        mqtt = f"mqtt {serving.mqtt} ({serving.broker})" if serving.mqtt else "no broker"
        print(f"page {serving.page}  {mqtt}  data {serving.data}", flush=True)

    uvloop.run(serve(settings, say))


def _settings(options: argparse.Namespace) -> Settings:
    told = {
        "data": options.data,
        "host": options.host,
        "port": options.port,
        "broker.port": options.mqtt_port,
        "broker.kind": options.broker,
        "tls.certificate": options.tls_cert,
        "tls.key": options.tls_key,
    }
    flags = [f"{name}={value}" for name, value in told.items() if value is not None]
    return grammar.load(
        Settings,
        toml=options.config,
        environ=os.environ,
        prefix=PREFIX,
        overrides=[*options.set, *flags],
    )
