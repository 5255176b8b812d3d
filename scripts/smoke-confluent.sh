#!/usr/bin/env bash
# confluent-kafka (librdkafka) against the server: idempotent producer, consumer, groups, the whole admin client.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

need_python
server_start
bounded 500 "$python" "$smoke/confluent_smoke.py" --bootstrap "$BOOTSTRAP" || fail "see above"
server_stop
say "all is well"
