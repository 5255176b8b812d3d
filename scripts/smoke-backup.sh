#!/usr/bin/env bash
# Backups: made under load by the server and by the tool, verified, restored after the machine is lost, thinned out, damaged.
# They go to a folder, or to the empty place that STORE_URL names; nothing can be damaged there.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

needs_chronik "its backups"
need_python
find_server
find_tool

store=$work/store
url=${STORE_URL:-file://$store}
kafka_port=$(free_port)
tool() { CHRONIK_BACKUP_URL=$url bounded 120 "$CHRONIK_TOOL" "$@"; }
# field NAME: of the JSON object on standard input
field() { "$python" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
last_ack() { tail -n 1 "$work/acks"; }
many() { [ -s "$work/acks" ] && [ "$(last_ack)" -ge "$1" ]; }

server_start --enable-backup --backup-url "$url" --backup-interval 2s
: >"$work/acks"
"$python" "$smoke/backup_load.py" --bootstrap "$BOOTSTRAP" --acks "$work/acks" >"$work/load.log" 2>&1 &
load_pid=$!
eventually 60 many 50 || { tail -n 5 "$work/load.log" >&2; fail "the load does not get under way"; }
server_says() { grep -q "backup 20.* made in" "$server_log"; }
eventually 30 server_says || fail "the server makes no backup by itself"
say "ok: the server's own backup under load"

at_least=$(last_ack)
eventually 30 tool -o json backup create --data-dir "$data_dir" >"$work/created" || fail "the tool makes no backup"
backup=$(field backup <"$work/created")
eventually 60 many $((at_least + 50)) || fail "the load ends"
tool -q backup verify "$backup" || fail "backup $backup is not sound"
tool -o json backup list >"$work/listed" || fail "backups can't be listed"
grep -q "$backup" "$work/listed" || fail "$backup is not listed"
say "ok: create, verify and list beside a running server"

server_kill
kill -KILL "$load_pid" 2>/dev/null || true
wait "$load_pid" 2>/dev/null || true
rm -rf "$data_dir"
tool backup restore "$backup" --into "$data_dir" || fail "$backup can't be restored"
status=0
tool backup restore "$backup" --into "$data_dir" 2>"$work/said" || status=$?
[ "$status" = 1 ] || fail "a restore into a directory that is there: status $status"
grep -q 'not empty' "$work/said" || fail "a restore into a directory that is there says: $(cat "$work/said")"
server_start
bounded 60 "$python" "$smoke/backup_load.py" --bootstrap "$BOOTSTRAP" --check --at-least "$at_least" ||
  fail "what was restored is not one moment"
server_stop
say "ok: everything up to the backup after the machine was lost"

rm -rf "$data_dir"
tool backup restore "$backup" --into "$data_dir" --rename pairs-left=other || fail "one topic can't be restored"
server_start
"$python" - "$BOOTSTRAP" <<'PYTHON' || fail "not that topic alone came back"
import sys
from confluent_kafka.admin import AdminClient
names = set(AdminClient({"bootstrap.servers": sys.argv[1]}).list_topics(timeout=30).topics)
sys.exit(0 if names == {"other"} else f"topics: {names}")
PYTHON
server_stop
say "ok: one topic under another name"

tool --yes -o json backup delete --keep 1 >"$work/deleted" || fail "old backups can't be deleted"
[ "$(tool -q backup list | wc -l)" = 1 ] || fail "more than one backup is left"
tool -q backup verify || fail "the last backup is not sound"
say "ok: thinned out"
[ -z "${STORE_URL:-}" ] || exit 0
object=$(find "$store" -path '*/segments/*' -type f | head -n 1)
[ -n "$object" ] || object=$(find "$store" -path '*/backups/*' -type f -size +4k | head -n 1)
printf 'X' | dd of="$object" bs=1 seek=5000 conv=notrunc status=none
status=0
tool backup verify >"$work/said" 2>&1 || status=$?
[ "$status" = 1 ] || fail "a damaged backup: status $status"
grep -q "$(basename "$object")" "$work/said" || fail "the damaged object is not named: $(cat "$work/said")"
say "ok: damage is named"
