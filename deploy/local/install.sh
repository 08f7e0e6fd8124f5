#!/bin/sh
# Installs the locked environment into the clone: sh deploy/local/install.sh local|dev
# .venv gets exactly what requirements/$1.txt lists, each file checked by its hash, and this project, editable.
# The installer (uv) has an environment of its own, so that it never removes itself.
set -eu
wanted=$1
installer=.careloop-tools/installer
# What is downloaded stays in the clone, unless somebody keeps a cache elsewhere on purpose.
export UV_CACHE_DIR="${UV_CACHE_DIR:-$PWD/.careloop-tools/uv-cache}"

fail() {
    echo "careloop: $1" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 python; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

if ! new_enough .venv/bin/python || ! new_enough "$installer/bin/python"; then
    python=$(find_python) || fail "Python 3.11 or newer was not found: install it, or name it with PYTHON=/path/to/python3.11."
    # Of one version there may be two builds, one of them a quarter slower; whoever names one gets that.
    [ "$python" = "${PYTHON:-}" ] || python=$("$python" deploy/local/quicker_python.py) || python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python cannot make virtual environments: install its venv package (on Debian: python3-venv)."
    echo "Making .venv with $("$python" --version) ($python) ..."
    mkdir -p .careloop-tools
    rm -rf "$installer"
    "$python" -m venv "$installer" || fail "The virtual environment $installer could not be made (see above)."
    new_enough .venv/bin/python || "$python" -m venv --without-pip --clear .venv || fail "The virtual environment .venv could not be made (see above)."
fi
if ! cmp -s requirements/uv.txt "$installer/uv.txt"; then
    echo "Installing the installer (uv) ..."
    "$installer/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/uv.txt ||
        fail "The installer could not be downloaded (see above): a network is needed the first time."
    cp requirements/uv.txt "$installer/uv.txt"
fi
echo "Installing requirements/$wanted.txt into .venv ..."
"$installer/bin/python" -m uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes "requirements/$wanted.txt" ||
    fail "What requirements/$wanted.txt lists could not be installed (see above): a network and about 1 GB of disk are needed."
"$installer/bin/python" -m uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e . ||
    fail "This project could not be installed into .venv (see above)."
touch ".venv/.installed-$wanted"
