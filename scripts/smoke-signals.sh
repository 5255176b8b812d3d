#!/usr/bin/env bash
# Signals, exit codes and refusals: what a supervisor and a person at a terminal rely on.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

needs_chronik "its signals and exit codes"
need_python

# exit_status: what the server ended with, within a bound
exit_status() {
  eventually 20 server_gone || fail "the server did not end within 20 s"
  local status=0
  wait "$server_pid" || status=$?
  echo "$status" >"$work/status"
}
ended_with() {
  exit_status
  [ "$(cat "$work/status")" = "$1" ] || { tail -n 5 "$server_log" >&2; fail "$2: status $(cat "$work/status"), and not $1"; }
}

# refused STATUS PATTERN OPTION...: the server does not start, ends with STATUS, and says PATTERN in one clear sentence
refused() {
  local status=0 expected=$1 pattern=$2
  shift 2
  bounded 20 "$CHRONIK_SERVER" "$@" >"$work/said" 2>&1 </dev/null || status=$?
  [ "$status" = "$expected" ] || { cat "$work/said" >&2; fail "chronik-server $*: status $status, and not $expected"; }
  grep -qiE -- "$pattern" "$work/said" || { cat "$work/said" >&2; fail "chronik-server $*: does not say '$pattern'"; }
  [ "$(wc -l <"$work/said")" -le 3 ] || { cat "$work/said" >&2; fail "chronik-server $*: says more than a person reads"; }
}

# load: a producer without a pause in the background
load() {
  : >"$work/acks"
  "$python" "$smoke/crash_producer.py" --bootstrap "$BOOTSTRAP" --topic under-load --name "load$server_runs" \
    --acks "$work/acks" confluent >"$work/load.log" 2>&1 &
  load_pid=$!
  under_way() { [ "$(wc -l <"$work/acks")" -gt 500 ]; }
  eventually 30 under_way || { tail -n 5 "$work/load.log" >&2; fail "the load does not get under way"; }
}
unload() { kill -KILL "$load_pid" 2>/dev/null || true; wait "$load_pid" 2>/dev/null || true; }
# nothing_lost: every acknowledged record of the last load is there
nothing_lost() {
  bounded 60 "$python" "$smoke/crash_verify.py" --bootstrap "$BOOTSTRAP" --topic under-load --acks "$work/acks" ||
    fail "$1: something acknowledged is gone"
}

kafka_port=$(free_port)

for signal in TERM INT; do
  server_start
  load
  kill "-$signal" "$server_pid"
  ended_with 0 "SIG$signal under load"
  unload
  server_start
  nothing_lost "SIG$signal"
  server_stop
  say "ok: SIG$signal under load"
done

# A second signal may come when the first has already done its work: then the status is 0, and that is as good.
server_start
load
kill -TERM "$server_pid"
kill -TERM "$server_pid" 2>/dev/null || true
exit_status
case $(cat "$work/status") in 0 | 130) ;; *) fail "two SIGTERM under load: status $(cat "$work/status"), and not 130 or 0" ;; esac
unload
server_start
nothing_lost "two SIGTERM"
say "ok: a second signal"

kill -HUP "$server_pid"
nothing_lost "SIGHUP"
server_gone && fail "SIGHUP ended the server"
say "ok: SIGHUP"

# The server of above is still there; every refusal has to leave it alone.
common=(--bind-addr 127.0.0.1 --admin-port off --metrics-port off)
refused 75 "$data_dir" "${common[@]}" --kafka-port 0 --data-dir "$data_dir"
refused 69 "$kafka_port.*(use|taken)" "${common[@]}" --kafka-port "$kafka_port" --data-dir "$work/other"
refused 69 "${METRICS##*:}.*(use|taken)" --bind-addr 127.0.0.1 --kafka-port 0 --admin-port off \
  --metrics-port "${METRICS##*:}" --data-dir "$work/other"
say "ok: taken ports, taken data directory"

not_yet='not available in this version'
for options in "--enable-search" "all" \
  "ingest --controller-url http://127.0.0.1:1" "search --storage-url s3://bucket"; do
  # Words are meant to be split.
  # shellcheck disable=SC2086
  refused 2 "$not_yet" "${common[@]}" --kafka-port 0 --data-dir "$work/other" $options
done
refused 2 "no-such-option" --no-such-option
refused 2 "no-such-command" no-such-command
refused 2 "kafka-port" --kafka-port 99999
[ "$(CHRONIK_KAFKA_PORT=lots "$CHRONIK_SERVER" --check-config >/dev/null 2>&1; echo $?)" = 78 ] || fail "CHRONIK_KAFKA_PORT=lots is not refused with 78"
[ "$("$CHRONIK_SERVER" --help | head -c 1 | wc -c)" = 1 ] || fail "--help says nothing"
"$CHRONIK_SERVER" --version | grep -qE '[0-9]+\.[0-9]+\.[0-9]+' || fail "--version tells no version"
say "ok: refusals"

nothing_lost "the refusals"
server_stop

# What is taken for the legacy metadata store is not silently opened with the other one.
data_dir=$work/legacy
server_start --file-metadata
server_stop
refused 65 "convert" "${common[@]}" --kafka-port 0 --data-dir "$data_dir"
say "ok: the other metadata store"
say "all is well"
