# ./just lists the recipes; ./just RECIPE runs one and does whatever set-up it needs first.

set positional-arguments

# onnxruntime's wheel carries a telemetry client that is on unless this is set before its import.
export ORT_DISABLE_TELEMETRY := "1"
# Two thread pools on few cores fight each other: numpy keeps to the caller's thread.
export OPENBLAS_NUM_THREADS := "1"

heading := "Longstop, one recipe at a time: ./just RECIPE\n"
parts := "mosquitto chromium libatomic1 postgresql strace"
python := ".venv/bin/python -P"
compile := "requirements/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-package longstop-sdk --no-emit-package longstop"

# List the recipes
[private]
default:
    @just --list --unsorted --list-heading "{{heading}}"

# See it work: a device, a gateway and a bad link between them, on this machine
demo *ARGS: setup (system "mosquitto")
    @{{python}} -m sim.demo "$@"

# Run the tests; ARGS go to pytest, as in: ./just test tests/cores -x
test *ARGS: setup system
    @{{python}} -m pytest "$@"

# All that CI runs: lint, arrows, test
check: lint arrows test

# Style, formatting and types
lint: setup
    .venv/bin/ruff check --quiet
    .venv/bin/ruff format --check --quiet
    .venv/bin/mypy

# Who may import whom
arrows: setup
    .venv/bin/lint-imports --no-logo

# Run a scenario on virtual time, as in: ./just sim outage --seed 7
sim *ARGS: setup
    .venv/bin/longstop-sim run "$@"

# Only the tests with real processes, sockets and brokers
e2e *ARGS: setup system
    {{python}} -m pytest -m "e2e or browser" "$@"

# Measure what we publish, as in: ./just bench agent
bench NAME *ARGS: setup
    #!/bin/sh
    set -eu
    name=$1; shift
    exec {{python}} "tests/bench/$name.py" "$@"

# Try a clone on a Debian that holds only python3, git and curl (root; ARGS: --only nodata|data)
bare *ARGS:
    sh tests/bare/run.sh "$@"

# Train a zoo model again, as in: ./just train apparel
train TASK *ARGS:
    #!/bin/sh
    # PyTorch is in no lock, so training has an environment of its own, and pip fills it from the index pip knows.
    set -eu
    task=$1; shift
    wanted=$(cksum requirements/train.in)
    if [ "$(cat .train-env/.made-from 2>/dev/null)" != "$wanted" ]; then
        echo "./just: making .train-env (PyTorch, some minutes)" >&2
        requirements/uv venv --quiet --clear --seed --python .tools/bin/python .train-env
        .train-env/bin/python -m pip install --quiet torch==2.13.0
        .train-env/bin/python -m pip install --quiet -r requirements/train.in
        echo "$wanted" >.train-env/.made-from
    fi
    exec .train-env/bin/python -m "models.zoo.$task.recipe" "$@"

# Resolve the locks again; --upgrade moves every pin, --upgrade-package NAME one
lock *ARGS:
    {{compile}} requirements/bootstrap.in --output-file requirements/bootstrap.txt "$@"
    {{compile}} pyproject.toml --extra sim --extra camera --group dev --output-file requirements/dev.txt "$@"
    {{compile}} pyproject.toml --extra gateway --constraint requirements/dev.txt --output-file requirements/gateway.txt "$@"
    {{compile}} pyproject.toml --constraint requirements/dev.txt --output-file requirements/agent.txt "$@"

# Check the documentation against the code
docs: setup
    {{python}} -m pytest tests/house/test_docs.py

# Make .venv from the locks, both distributions editable 
setup:
    #!/bin/sh
    set -eu
    locked=$(cksum <requirements/dev.txt)
    wanted="$locked $(cat pyproject.toml edge_agent/pyproject.toml | cksum) $PWD"
    is() { [ "$(cat ".venv/$1" 2>/dev/null)" = "$2" ]; }
    [ -x .venv/bin/python ] && is .made-from "$wanted" && exit
    [ -x .venv/bin/python ] || requirements/uv venv --quiet --clear --python .tools/bin/python .venv
    if ! is .locked "$locked"; then
        echo "./just: installing $(grep -c == requirements/dev.txt) locked packages into .venv" >&2
        requirements/uv pip sync --quiet --require-hashes requirements/dev.txt
        echo "$locked" >.venv/.locked
    fi
    # Always after a sync, which removes what its file does not name.
    echo "./just: putting longstop and longstop-sdk into .venv, editable" >&2
    requirements/uv pip install --quiet --no-deps --no-build-isolation --offline -e . -e edge_agent
    echo "$wanted" >.venv/.made-from

# Install what tests use beside Python, by apt (needs root; else says how)
system PARTS=parts:
    #!/bin/sh
    set -eu
    PATH=$PATH:/usr/sbin:/sbin
    have() {
        case $1 in
            postgresql) ls /usr/lib/postgresql/*/bin/postgres ;;   # Debian keeps it off the path
            libatomic1) ldconfig -p | grep -F libatomic.so.1 ;;   # what drives Chromium needs it
            *) command -v "$1" ;;
        esac >/dev/null 2>&1
    }
    missing=
    for part in $1; do have "$part" || missing="$missing $part"; done
    [ -n "$missing" ] || exit 0
    without="some tests are skipped"
    [ "$1" = mosquitto ] && without="the demo uses amqtt as its broker"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "./just: without$missing $without; to change that: sudo apt-get install --no-install-recommends$missing" >&2
        exit 0
    fi
    echo "./just: installing$missing by apt (once)" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing >/dev/null ||
        echo "./just: apt failed; going on without$missing, $without" >&2
