#!/usr/bin/env bash
# kafka-python against the server: unpinned, and as the client of an older day, in today's release and in 2.0.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

need_python
server_start

# check PYTHON [OPTION...]
check() { bounded 240 "$1" "$smoke/kafka_python_smoke.py" --bootstrap "$BOOTSTRAP" "${@:2}" || fail "see above: $*"; }

say "today's release, unpinned"
check "$python"
say "today's release, api_version=(2, 1, 0)"
check "$python" --api-version 2.1.0

if old_clients; then
  legacy=$repo/.venv/legacy
  eras=(0.8.2 0.9 0.10.0 0.10.1 0.11.0)
  for era in "${eras[@]}"; do
    say "today's release, api_version $era"
    check "$python" --api-version "$era"
  done
  if make_venv "$legacy" "$smoke/requirements-legacy.txt"; then
    for era in "${eras[@]}"; do
      say "kafka-python 2.0, api_version $era"
      check "$legacy/bin/python" --api-version "$era"
    done
    say "kafka-python 2.0, which asks the server for its version"
    check "$legacy/bin/python"
  else
    skip_piece "kafka-python 2.0 can't be installed with pip"
  fi
else
  skip_piece "old protocols, OLD_CLIENTS=no"
fi
server_stop
say "all is well"
