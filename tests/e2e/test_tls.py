"""A gateway over HTTPS and devices that know its authority, or do not."""

import subprocess
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.gateway_process import run_command
from tests.local_device import hard
from tests.programs import PYTHON, Agent, Gateway, until

pytestmark = pytest.mark.e2e
FAST = ("cloud.pace.beat_s=1", "outbox.linger_ms=50")


def test_enrolment_questions_records_and_packages_go_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.identity()
    own = ("--tls-cert", str(identity.certificate), "--tls-key", str(identity.key))
    with Gateway(tmp_path / "cloud", words=own) as gateway:
        assert gateway.url.startswith("https://127.0.0.1:")
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        invitation = gateway.invite("bench-1")
        stranger = subprocess.run(
            [*PYTHON, "edge_agent", *invitation, "--data", str(tmp_path / "stranger")],
            capture_output=True,
            text=True,
        )
        assert stranger.returncode == 1
        assert stranger.stderr.startswith("longstop-agent: untrusted: ")
        assert "--ca" in stranger.stderr
        assert not (tmp_path / "stranger").exists()
        known = [*invitation, "--ca", str(authority.file)]
        with Agent(tmp_path / "a", known, *FAST) as agent:
            until(lambda: agent.serves("1.0.0"), what="its package came over TLS")
            with agent.client() as client:
                there = client.infer(hard(0, 2), deadline_ms=5000)
            assert (there.label, there.source) == ("right", "cloud")
            until(lambda: agent.status()["issued"] == 1, what="numbered")
            until(lambda: agent.status()["pending"] == 0, what="delivered")
            assert agent.stop() == 0
        assert (tmp_path / "a" / "ca.pem").read_bytes() == authority.file.read_bytes()


def test_files_that_are_no_identity_are_named_before_anything_starts(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.identity(), authority.identity()
    words = ("--tls-cert", str(one.certificate), "--tls-key", str(other.key))
    done = run_command("serve", "--data", str(tmp_path / "g"), "--port", "0", *words)
    assert done.code == 1
    assert done.stderr.startswith("longstop-gateway: bad_identity: ")
