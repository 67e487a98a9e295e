#!/usr/bin/env bash
# Segments a real volume from clicks, and tissues by name; shows the results as pictures.
#   bash tools/demo.sh                  the brain in the MNI152 T1 template; then grey and white matter, learned from slices
#   bash tools/demo.sh IMAGE X Y Z      what lies at voxel X Y Z of your own file
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit ;; esac
# A path of the user's is meant from the user's own folder.
if [ $# -gt 0 ] && [ -e "$1" ]; then
    set -- "$(cd "$(dirname "$1")" && pwd)/$(basename "$1")" "${@:2}"
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/environment.sh
prepare_environment demo
exec .venv/bin/python -m tools.demo "$@"
