#!/usr/bin/env bash
# Builds the Python module and runs its tests, in an environment of its own under target/. Needs CPython 3.11 or later.
#
# PYTHON names the interpreter (default python3.11). Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

environment=$PWD/target/python
if [[ ! -x $environment/bin/python ]]; then
  "${PYTHON:-python3.11}" -m venv "$environment"
fi
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt

# The dev profile: the crates that `cargo test` has built serve here too.
VIRTUAL_ENV=$environment PATH=$environment/bin:$PATH maturin develop --locked --quiet

"$environment/bin/python" -m mypy
"$environment/bin/python" -m mypy.stubtest flow_fabric._native --mypy-config-file pyproject.toml \
  --allowlist tests/python/stubtest.txt --ignore-unused-allowlist
"$environment/bin/python" -m pytest --quiet "$@"
