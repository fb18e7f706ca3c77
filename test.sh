#!/usr/bin/env bash
# Everything that a change must pass. Needs a Rust toolchain with rustfmt and clippy, and CPython 3.11 with venv and pip.
#
# Snapshots:       INSTA_UPDATE=always cargo test       rewrites what people read (tests/**/snapshots)
# Generated files: UPDATE_GENERATED=1 cargo test --test generated   rewrites schemas/ and docs/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

step() {
  printf '\n== %s\n' "$*"
  "$@"
}

step cargo fmt --check

# The library alone, the library with its report renderer, the command line, the Python module.
step cargo clippy --locked --all-targets --no-default-features -- -D warnings
step cargo clippy --locked --all-targets --no-default-features --features render -- -D warnings
step cargo clippy --locked --all-targets -- -D warnings
step cargo clippy --locked --lib --features python -- -D warnings

RUSTDOCFLAGS="-D warnings" step cargo doc --locked --no-deps

# The shipped policies, by the tool itself.
step cargo run --locked --quiet -- check policies/*.toml -D warnings

step cargo test --locked --no-default-features --lib
step cargo test --locked
step tests/python/run.sh
