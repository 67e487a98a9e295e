#!/usr/bin/env bash
# Sets up .venv and runs every check: ruff, then pytest. Further arguments go to pytest: bash tools/test.sh -m slow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/environment.sh
prepare_environment test
.venv/bin/python -m tools.lite_medsam || echo "tests of LiteMedSAM's published weights are skipped" >&2
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
# Each file of tests stays in one process, so that what its tests share is made once.
exec .venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"
