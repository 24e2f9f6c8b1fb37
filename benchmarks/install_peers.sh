#!/usr/bin/env bash
# Install the peers into a venv of their own (default .peers beside the README).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${1:-$here/../.peers}
python=${PYTHON:-$(command -v python3.11 || command -v python3)}

"$python" -m venv "$venv"
install() { "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
install torch==2.13.0
# A peer that has no wheel for this machine is reported as missing, it does not stop the others.
grep -v '^#' "$here/peers.txt" | while read -r peer; do
  install "$peer" || echo "not installed: $peer" >&2
done
"$venv/bin/python" -m pip list --disable-pip-version-check
