#!/usr/bin/env bash
# aiokafka against the server: producer, consumer, a group, compressions, admin.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

need_python
server_start
bounded 500 "$python" "$smoke/aiokafka_smoke.py" --bootstrap "$BOOTSTRAP" || fail "see above"
server_stop
say "all is well"
