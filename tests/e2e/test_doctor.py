"""longstop-agent doctor beside a real agent and a real gateway: well, killed, damaged."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.programs import Agent, Gateway, until

pytestmark = pytest.mark.e2e


def examined(agent: Agent) -> tuple[int, dict[str, dict[str, Any]]]:
    done = agent.tell("doctor", "--json")
    told = json.loads(done.stdout)
    return done.returncode, {one["name"]: one for one in told["findings"]}


def test_a_device_is_well_then_killed_then_damaged_and_doctor_says_so(tmp_path: Path) -> None:
    with Gateway(tmp_path / "cloud") as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        with Agent(tmp_path / "a", gateway.invite("bench-1")) as agent:
            until(lambda: agent.serves("1.0.0"), what="served")
            _, found = examined(agent)
            for name in ("agent", "task sides", "sockets", "gateway", "clock", "identity"):
                assert found[name]["verdict"] == "ok", found[name]
            assert found["package sides"]["verdict"] == "ok"
            assert "takes this device's token" in found["gateway"]["saw"]
            assert "1" in found["sqlite"]["saw"], "one writer: the agent"

            agent.stop(signal.SIGKILL)
            code, found = examined(agent)
            assert code == 1
            assert "did not end in order" in found["agent"]["saw"]
            assert "longstop-agent run" in found["agent"]["next"]
            # Without an agent the certificate is looked at in a process of doctor's own.
            assert found["certificate sides"]["verdict"] == "ok", found["certificate sides"]

        home = agent.data / "packages" / "sides"
        (folder,) = (path for path in home.iterdir() if path.is_dir())
        model = next(path for path in folder.iterdir() if path.name != "manifest.json")
        model.write_bytes(model.read_bytes() + b"x")
        code, found = examined(agent)
        assert code == 1
        assert found["package sides"]["verdict"] == "broken"
        assert "hash_mismatch" in found["package sides"]["saw"]
    _, found = examined(agent)
    assert found["gateway"]["verdict"] == "broken", "nobody is there any more"
