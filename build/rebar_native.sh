#!/bin/sh
# rebar3's hook before it compiles cryptoki: Mix compiles lib/ and native/ into the folder that rebar3
# uses, with the same compile task as in a Mix project. Called in cryptoki's source folder.
set -eu

if ! command -v mix >/dev/null; then
  echo "cryptoki: Elixir 1.14 or newer is needed to compile it, and 'mix' is not on the PATH." >&2
  exit 1
fi

# Below its build path Mix uses lib/cryptoki, which is rebar3's place for it too. The crates are built
# once for all profiles.
export CRYPTOKI_CARGO_CACHE="${REBAR_BUILD_DIR%/*}/native"
MIX_ENV=prod MIX_BUILD_PATH="$REBAR_BUILD_DIR" mix compile --no-protocol-consolidation
built="$REBAR_BUILD_DIR/lib/cryptoki"

# But a checkout has another one.
checkout="${REBAR_CHECKOUTS_DIR:-}/cryptoki"
if [ -d "$checkout" ] && [ "$(cd "$checkout" && pwd -P)" = "$(pwd -P)" ]; then
  out="${REBAR_CHECKOUTS_OUT_DIR:-$REBAR_BUILD_DIR/checkouts}/cryptoki"
  mkdir -p "$out"
  for folder in ebin priv; do
    rm -rf "${out:?}/$folder"
    ln -s "$built/$folder" "$out/$folder"
  done
fi
