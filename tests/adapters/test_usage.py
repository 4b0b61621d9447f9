"""Wrong usage is a JSON object too, where JSON was asked for: one suite for the three programs."""

import json
from collections.abc import Callable, Sequence

import pytest

from cloud_gateway.cli import main as gateway
from edge_agent.cli import main as agent
from models.cli import main as models

Main = Callable[[Sequence[str]], int]
WRONG: list[tuple[Main, list[str], str]] = [
    (models, ["inspect"], "the following arguments are required: PATH"),
    (models, ["nobody"], "invalid choice: 'nobody'"),
    (models, ["verify", "x", "--key", "k"], "--key and --release belong together"),
    (models, ["quantize", "x", "--method", "magic"], "invalid choice: 'magic'"),
    (agent, ["infer"], "required"),
    (agent, ["outbox", "nobody"], "invalid choice: 'nobody'"),
    (agent, ["status", "--nonsense"], "unrecognized arguments: --nonsense"),
    (gateway, ["device", "add"], "required"),
    (gateway, ["nobody"], "invalid choice: 'nobody'"),
]


@pytest.mark.parametrize(("main", "words", "said"), WRONG)
def test_wrong_usage_with_json_is_an_object_with_its_code(
    main: Main, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([*words, "--json"])
    assert left.value.code == 2
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["code"] == "wrong_usage"
    assert said in told["message"]
    assert captured.err.startswith("usage: longstop-")
    assert f"error: {told['message']}" in captured.err


@pytest.mark.parametrize(("main", "words", "said"), WRONG)
def test_without_json_nothing_is_on_stdout(
    main: Main, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
