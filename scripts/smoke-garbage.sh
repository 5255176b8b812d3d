#!/usr/bin/env bash
# Bytes that are no Kafka, by the thousand: each is refused, memory stays bounded, and a good client goes on unharmed.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

need_python
server_start
pid=()
[ -z "$server_pid" ] || pid=(--pid "$server_pid")
bounded 500 "$python" "$smoke/garbage.py" --bootstrap "$BOOTSTRAP" "${pid[@]}" || fail "see above"
if [ -n "$server_pid" ]; then
  # Thousands of bad connections must not become thousands of lines.
  lines=$(wc -l <"$server_log")
  say "the server has logged $lines lines"
  [ "$lines" -lt 1000 ] || fail "the server has logged $lines lines: that is no rate limit"
  ! grep -i 'panicked' "$server_log" || fail "the server panicked"
fi
server_stop
say "all is well"
