#!/usr/bin/env bash
# Opens the page in which a scan is clicked, and the masks saved; everything is computed on this computer.
#   bash tools/click.sh                 then drop a scan on the page, or try it on an example brain
#   bash tools/click.sh SCAN            NIfTI, NRRD, MetaImage or .mgz file, or the folder of a DICOM series
#   bash tools/click.sh --no-browser    prints the address alone; --help lists all options
set -euo pipefail
# A path of the user's is meant from the user's own folder.
arguments=()
for argument in "$@"; do
    if [ -e "$argument" ]; then
        argument="$(cd "$(dirname "$argument")" && pwd)/$(basename "$argument")"
    fi
    arguments+=("$argument")
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/environment.sh
prepare_environment page
exec .venv/bin/python -m tools.page ${arguments[@]+"${arguments[@]}"}
