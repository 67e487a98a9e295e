#!/usr/bin/env bash
# Sets up .venv and runs every check: ruff, then pytest. Further arguments go to pytest: bash tools/test.sh -m slow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/environment.sh
prepare_environment test
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
exec .venv/bin/python -m pytest "$@"
