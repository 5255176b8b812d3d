#!/usr/bin/env bash
# The tool chronik against a server, and against a data directory with a flipped bit: topics, groups, verify, repair.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

need_command kcat kcat
need_command python3 python3
find_tool() {
  [ -z "${CHRONIK_TOOL:-}" ] || { [ -x "$CHRONIK_TOOL" ] || fail "no program at CHRONIK_TOOL=$CHRONIK_TOOL"; return 0; }
  (cd "$repo" && cargo build --quiet --bin chronik --target-dir "${CARGO_TARGET_DIR:-$repo/target}") >&2 || fail "the tool can't be built"
  CHRONIK_TOOL=${CARGO_TARGET_DIR:-$repo/target}/debug/chronik
}
find_tool
server_start
topic=tool-$$-$RANDOM
chronik() { bounded 60 "$CHRONIK_TOOL" "$@"; }
online() { chronik -b "$BOOTSTRAP" "$@"; }

# expect STATUS COMMAND...: the exit status is part of what is promised
expect() {
  local wanted=$1 status=0
  shift
  "$@" >"$work/out" 2>"$work/err" || status=$?
  [ "$status" = "$wanted" ] || { cat "$work/out" "$work/err" >&2; fail "status $status and not $wanted: $*"; }
}
# says TEXT: standard output of the last command has it
says() { grep -qF -- "$1" "$work/out" || { cat "$work/out" "$work/err" >&2; fail "does not say: $1"; }; }
# json EXPRESSION: true of the JSON document that the last command has printed
json() { python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert eval(sys.argv[2]), d' "$work/out" "$1" || fail "not so: $1"; }

check_topics() {
  expect 0 online topic create "$topic" -p 3 -c retention.ms=600000
  expect 1 online topic create "$topic"
  expect 0 online topic create "$topic" --if-not-exists
  expect 0 online topic list -o json
  json "any(t['name'] == '$topic' and t['partitions'] == 3 for t in d)"
  seq 1 100 | bounded 30 kcat -q -b "$BOOTSTRAP" -P -t "$topic" -p 0 || fail "kcat could not produce"
  expect 0 online topic describe "$topic" -o json
  json "d[0]['partitions'][0]['end_offset'] == 100"
  json "any(c['name'] == 'retention.ms' and c['value'] == '600000' for c in d[0]['configs'])"
  expect 0 online topic add-partitions "$topic" --to 4
  expect 0 online topic set "$topic" max.message.bytes=50000
  expect 0 online topic unset "$topic" retention.ms
  expect 0 online topic describe "$topic"
  says max.message.bytes=50000
  ! grep -q retention.ms "$work/out" || fail "retention.ms is still set"
  expect 1 online topic set "$topic" no.such.setting=1
  expect 2 online topic trim "$topic" --before 40 -p 0 </dev/null
  expect 0 online topic trim "$topic" --before 40 -p 0 -y
  says "begins at offset 40"
  expect 3 online topic describe no-such-topic
  expect 3 online topic delete no-such-topic -y
  expect 0 online topic delete no-such-topic -y --if-exists
}

check_groups() {
  bounded 60 kcat -q -b "$BOOTSTRAP" -G "$topic-group" -X auto.offset.reset=earliest -c 60 "$topic" >/dev/null 2>&1 || fail "kcat could not consume"
  expect 0 online group list -q
  says "$topic-group"
  expect 0 online group describe "$topic-group" -o json
  json "d[0]['group'] == '$topic-group' and d[0]['lag'] == 0"
  expect 3 online group describe no-such-group
}

check_rest() {
  expect 0 online cluster info -o json
  json "len(d['brokers']) >= 1"
  expect 5 chronik -b 127.0.0.1:1 topic list
  expect 2 chronik topic lst
  expect 0 chronik --help-json
  json "d['name'] == 'chronik'"
  expect 0 chronik completion bash
  bash -n "$work/out" || fail "bash does not like its completion"
}

check_data_directory() {
  server_stop
  expect 0 chronik wal verify -d "$data_dir"
  expect 0 chronik wal dump -d "$data_dir" --meta
  says "$topic"
  expect 0 chronik segment list -d "$data_dir" -o json
  # One bit of one record, far enough in front to lie in the first batch of the topic.
  python3 - "$data_dir" <<'PYTHON'
import glob, sys
name = sorted(glob.glob(sys.argv[1] + "/wal/*.log"))[0]
with open(name, "r+b") as file:
    at = file.read().index(b"\x0450\x00")
    file.seek(at + 1)
    file.write(b"6")
PYTHON
  expect 1 chronik wal verify -d "$data_dir" -o json
  json "not d['sound'] and d['findings'][0]['lost'][0]['topic'] == '$topic'"
  expect 0 chronik wal repair -d "$data_dir" --into "$work/repaired" -o json
  json "d['lost'][0]['topic'] == '$topic'"
  expect 0 chronik wal verify -d "$work/repaired"
  data_dir=$work/repaired
  server_start
  expect 0 online topic list -q
  says "$topic"
  bounded 60 kcat -q -b "$BOOTSTRAP" -C -t "$topic" -e -f '%o %s\n' >/dev/null || fail "the repaired topic cannot be read"
}

check_topics
check_groups
check_rest
if [ -z "$external" ] && ! is_peer; then check_data_directory; fi
expect 0 online topic delete "$topic" -y
server_stop
say "all is well"
