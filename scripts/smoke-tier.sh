#!/usr/bin/env bash
# A second tier: segments go to a store and from the disk, are read from there, survive kill -9 and the loss of the machine, and a
# store that is away costs the reads of what only it has.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

needs_chronik "its object storage"
need_python
find_server
find_tool

stores=$repo/.venv/store
make_venv "$stores" "$smoke/requirements-store.txt" || skip "moto can't be installed with pip"
store_port=$(free_port)
moto_start() {
  "$stores/bin/moto_server" -H 127.0.0.1 -p "$store_port" >>"$work/moto.log" 2>&1 </dev/null &
  moto_pid=$!
  listens() { ! port_is_closed "$store_port"; }
  eventually 60 listens || { tail -n 5 "$work/moto.log" >&2; fail "moto did not start"; }
}
moto_start
"$python" "$smoke/make_bucket.py" s3 "http://127.0.0.1:$store_port" tier-bucket

export STORAGE_BACKEND=s3 S3_BUCKET=tier-bucket S3_PREFIX=some/where S3_ENDPOINT=http://127.0.0.1:$store_port
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
kafka_port=$(free_port)
# Small segments, and nothing stays here that the store has.
tiny=(--log-segment-bytes 16MiB --log-retention-check-interval-ms 1000 --upload-interval 2s --storage-free-bytes 1000000GiB)
load() { bounded 300 "$python" "$smoke/tier_load.py" --bootstrap "$BOOTSTRAP" "$@"; }
metric() { http_get "$METRICS" /metrics | sed -nE "s/^$1 ([0-9]+).*/\\1/p"; }
remote() { [ "$(metric chronik_tier_remote_bytes)" -gt "$1" ]; }

server_start "${tiny[@]}"
load write --topic tiered --records 60000 || fail "records can't be written"
eventually 120 remote 20000000 || fail "nothing leaves the disk: $(http_get "$METRICS" /metrics | grep chronik_tier)"
load read --topic tiered --records 60000 || fail "what only the store has is not read"
[ "$(metric chronik_tier_fetched_bytes_total)" -gt 20000000 ] || fail "nothing was read from the store"
say "ok: most of the log is in the store only, and is read from there"

server_kill
server_start "${tiny[@]}"
load read --topic tiered --records 60000 || fail "not everything is there after kill -9"
bounded 120 "$CHRONIK_TOOL" backup create --url "file://$work/backups" --data-dir "$data_dir" ||
  fail "no backup is made of what only the store has"
say "ok: the same after kill -9, and a backup holds all of it"

kill "$moto_pid"
wait "$moto_pid" 2>/dev/null || true
load write --topic hot --records 2000 || fail "records can't be written while the store is away"
load read --topic hot --records 2000 --beside tiered || fail "hot records are not read while the store is away"
say "ok: a store that is away costs nobody who does not read from it"
server_stop

# moto has forgotten everything, so the rest is done with a folder in its place.
unset STORAGE_BACKEND S3_BUCKET S3_PREFIX S3_ENDPOINT
rm -rf "$data_dir"
tiny+=(--local-storage-path "$work/store")
server_start "${tiny[@]}"
load write --topic tiered --records 60000 --group readers || fail "records can't be written"
written=$(date +%s)
eventually 120 remote 20000000 || fail "nothing leaves the disk"
uploaded() { [ "$(metric chronik_tier_last_upload_timestamp_seconds)" -gt "$1" ]; }
# When everything is there, nothing more is uploaded.
eventually 60 uploaded "$written" || fail "no upload after the last record"
server_kill
rm -rf "$data_dir"
server_start "${tiny[@]}" --restore-from "file://$work/store"
grep -q 'restored 1 topics' "$server_log" || fail "nothing was restored: $(cat "$server_log")"
load read --topic tiered --records 60000 --group readers || fail "not everything came back from the store"
say "ok: an empty machine and the store give everything back"

cp -r "$data_dir" "$work/copy"
server_stop
first=$data_dir data_dir=$work/copy
server_start "${tiny[@]}"
refused() { grep -q 'storage-take-over' "$server_log"; }
eventually 60 refused || fail "a copy of the directory uses the objects of the first"
server_stop
data_dir=$first
say "ok: a copy of the directory keeps its hands off the first one's objects"
