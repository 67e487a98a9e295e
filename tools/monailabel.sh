#!/usr/bin/env bash
# A MONAI Label server for 3D Slicer and OHIF with both bundles.
#   bash tools/monailabel.sh STUDIES [--port 8000] [--labels liver,spleen] [...]   STUDIES: folder of images, or http://...
#   bash tools/monailabel.sh --help                                               every option
#   bash tools/monailabel.sh --test [pytest arguments]                            tests with a real server
set -euo pipefail
if [ $# -eq 0 ]; then
    sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"
    exit 2
fi
# A path of the user's is meant from the user's own folder.
if [ -d "$1" ]; then
    set -- "$(cd "$1" && pwd)" "${@:2}"
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/environment.sh
case $1 in
-h | --help) exec "$(find_python)" -m tools.label_server --help ;;
--test)
    prepare_environment label-test .venv-label
    exec .venv-label/bin/python -m pytest tests/label_server "${@:2}"
    ;;
esac
prepare_environment label .venv-label
exec .venv-label/bin/python -m tools.label_server "$@"
