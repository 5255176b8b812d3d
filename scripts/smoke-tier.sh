#!/usr/bin/env bash
# A second tier: segments go to a store and from the disk, are read from there, survive kill -9 and the loss of the machine; what is
# deleted goes from the store; a store that is away costs the reads of what only it has.
#
# The store is the empty place that STORE_URL names (file://, s3://, gs://, azure://; its keys as the server takes them), or else
# moto and then a folder. With STORE_PID the process that serves it is halted for a while.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

needs_chronik "its object storage"
need_python
find_server
find_tool

kafka_port=$(free_port)
load() { bounded 300 "$python" "$smoke/tier_load.py" --bootstrap "$BOOTSTRAP" "$@"; }
remote() { [ "$(metric chronik_tier_remote_bytes)" -gt "$1" ]; }
uploaded() { [ "$(metric chronik_tier_last_upload_timestamp_seconds)" -ge "$1" ]; }
is_later_than() { [ "$(date +%s)" -ge "$1" ]; }

# Small segments, and nothing stays here that the store has.
tiny=(--log-segment-bytes 16MiB --log-retention-check-interval-ms 1000 --upload-interval 2s --storage-free-bytes 1000000GiB)

# stored_bytes: of all segments in the store, as the store itself says
stored_bytes() { "$python" "$smoke/list_store.py" "$tier_url" | awk '/\/segments\// { sum += $1 } END { print sum + 0 }'; }
store_holds_less_than() { local now; now=$(stored_bytes) && [ "$now" -lt "$1" ]; }

reads_from_the_store() {
  server_start "${tiny[@]}"
  load write --topic tiered --records 60000 --group readers --config retention.ms=123456789 || fail "records can't be written"
  eventually 120 remote 20000000 || fail "nothing leaves the disk: $(http_get "$METRICS" /metrics | grep chronik_tier)"
  [ "$(stored_bytes)" -gt 20000000 ] || fail "the store does not hold what left the disk"
  load read --topic tiered --records 60000 || fail "what only the store has is not read"
  [ "$(metric chronik_tier_fetched_bytes_total)" -gt 20000000 ] || fail "nothing was read from the store"
  say "ok: most of the log is in the store only, and is read from there"

  server_kill
  server_start "${tiny[@]}"
  load read --topic tiered --records 60000 --group readers || fail "not everything is there after kill -9"
  bounded 120 "$CHRONIK_TOOL" backup create --url "file://$work/backups" --data-dir "$data_dir" ||
    fail "no backup is made of what only the store has"
  rm -rf "$work/backups"
  say "ok: the same after kill -9, and a backup holds all of it"
}

deletes_in_the_store() {
  local before
  load write --topic passing --records 40000 || fail "records can't be written"
  eventually 120 remote 70000000 || fail "nothing more leaves the disk"
  before=$(stored_bytes)
  load delete --topic passing || fail "a topic can't be deleted"
  eventually 240 store_holds_less_than $((before - 20000000)) ||
    fail "what was deleted stays in the store: $before bytes before, $(stored_bytes) now"
  say "ok: what was deleted goes from the store"
}

survives_the_machine() {
  local from
  load write --topic last --records 2000 || fail "records can't be written"
  # An upload counts that begins in a later second, and there is one if there is something new.
  from=$(($(date +%s) + 1))
  eventually 5 is_later_than "$from" || fail "time stands still"
  load write --topic newer --records 1 || fail "a record can't be written"
  eventually 120 uploaded "$from" || fail "no upload after the last record"
  server_kill
  rm -rf "$data_dir"
  server_start "${tiny[@]}" --restore-from "$tier_url"
  grep -q 'restored [23] topics' "$server_log" || fail "nothing was restored: $(cat "$server_log")"
  grep -q 'the log is restored up to .*, the time of the last upload' "$server_log" || fail "it is not said up to when: $(cat "$server_log")"
  load read --topic tiered --records 60000 --group readers --config retention.ms=123456789 || fail "not everything came back"
  load read --topic last --records 2000 || fail "not everything came back"
  say "ok: an empty machine and the store give everything back"

  cp -r "$data_dir" "$work/copy"
  server_stop
  local first=$data_dir
  data_dir=$work/copy
  server_start "${tiny[@]}"
  refused() { grep -q 'storage-take-over' "$server_log"; }
  eventually 60 refused || fail "a copy of the directory uses the objects of the first"
  server_stop
  rm -rf "$data_dir"
  data_dir=$first
  say "ok: a copy of the directory keeps its hands off the first one's objects"
}

# without_the_store SIGNAL: the process that serves the store gets it
without_the_store() {
  server_start "${tiny[@]}"
  kill "-$1" "$store_pid"
  load write --topic hot --records 2000 || fail "records can't be written while the store is away"
  load read --topic hot --records 2000 --beside tiered || fail "hot records are not read while the store is away"
  # Whoever stops the server does not wait for the store either.
  server_stop 30
  say "ok: a store that is away costs nobody who does not read from it"
}

# whole URL: everything
whole() {
  use_store "$1"
  rm -rf "$data_dir"
  reads_from_the_store
  deletes_in_the_store
  survives_the_machine
}

store_pid=${STORE_PID:-}
if [ -n "${STORE_URL:-}" ]; then
  whole "$STORE_URL"
  [ -n "$store_pid" ] || exit 0
  without_the_store STOP
  kill -CONT "$store_pid"
  server_start "${tiny[@]}"
  load read --topic tiered --records 60000 || fail "what only the store has is not read when it is back"
  server_stop
  say "ok: a store that is back is read from"
  exit 0
fi

stores=$repo/.venv/store
if make_venv "$stores" "$smoke/requirements-store.txt"; then
  store_port=$(free_port)
  "$stores/bin/moto_server" -H 127.0.0.1 -p "$store_port" >"$work/moto.log" 2>&1 </dev/null &
  store_pid=$!
  listens() { ! port_is_closed "$store_port"; }
  eventually 60 listens || { tail -n 5 "$work/moto.log" >&2; fail "moto did not start"; }
  "$python" "$smoke/make_bucket.py" s3 "http://127.0.0.1:$store_port" tier-bucket
  export S3_ENDPOINT=http://127.0.0.1:$store_port AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
  whole s3://tier-bucket/some/where
  without_the_store KILL
else
  skip_piece "moto can't be installed with pip, so the tier is in a folder only"
fi
whole "file://$work/store"
