# Sourced by the other scripts: makes or re-uses an environment beside the code and installs this project's needs with
# an extra.
#   prepare_environment EXTRA [FOLDER]      FOLDER is .venv where nothing is said

PYTHON_WANTED="Python 3.10, 3.11 or 3.12"

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.12 python3.11 python3.10 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "no $PYTHON_WANTED found: install one, or set PYTHON=/path/to/python" >&2
    return 1
}

prepare_environment() {
    local extra=$1 folder=${2:-.venv} python stamp
    if [ ! -x "$folder/bin/python" ]; then
        python=$(find_python)
        echo "making $folder with $("$python" --version)"
        "$python" -m venv "$folder" || {
            echo "could not make $folder: on Debian or Ubuntu the package python3-venv is missing" >&2
            return 1
        }
    fi
    # The environment is complete for this setup.cfg once the stamp says so: a second run starts at once.
    stamp=$folder/.installed-$extra
    if [ ! -f "$stamp" ] || [ setup.cfg -nt "$stamp" ]; then
        echo "installing the packages that this needs into $folder (once; 1 to 5 minutes)"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[$extra]" || {
            echo "pip could not install the packages: see its message above; is there a connection to the package index?" >&2
            return 1
        }
        touch "$stamp"
    fi
}
