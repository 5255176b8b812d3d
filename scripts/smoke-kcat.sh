#!/usr/bin/env bash
# Debian's kcat against the server: metadata, produce, consume, compressions, offsets by time, transactions, a group, old
# protocols.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

need_command kcat kcat
need_python
server_start
run_id=$$-$RANDOM
protocol=() # options of the era that is spoken

kcat_() { bounded 60 kcat -q -b "$BOOTSTRAP" "${protocol[@]}" "$@"; }

# produce TOPIC [OPTION...]: the lines of standard input, to partition 0 unless told otherwise
produce() {
  local topic=$1
  shift
  kcat_ -P -t "$topic" -X message.timeout.ms=20000 "$@" || fail "kcat -P to $topic ended with an error"
}

# consume TOPIC [OPTION...]: everything that is in partition 0
consume() {
  local topic=$1
  shift
  kcat_ -C -t "$topic" -p 0 -o beginning -e "$@" || fail "kcat -C from $topic ended with an error"
}

check_metadata() {
  local topic=kcat-meta-$run_id
  echo hello | produce "$topic" -p 0
  kcat_ -L >"$work/meta"
  grep -q " topic \"$topic\" with" "$work/meta" || fail "kcat -L does not tell the topic"
  grep -qE " broker [0-9]+ at ${BOOTSTRAP%:*}:${BOOTSTRAP##*:}" "$work/meta" || fail "kcat -L does not tell the broker at $BOOTSTRAP"
  kcat_ -L -J -t "$topic" | python3 -c 'import json, sys
told = json.load(sys.stdin)["topics"][0]
assert told["partitions"][0]["leader"] == told["partitions"][0]["isrs"][0]["id"], told' || fail "kcat -L -J tells no leader"
}

check_round_trip() {
  local topic=kcat-trip-$run_id before after
  before=$(date +%s%3N)
  for i in $(seq 0 49); do printf 'key-%d:value %d\n' "$i" "$i"; done >"$work/sent"
  produce "$topic" -p 0 -K: -H first=1 -H second=zwei <"$work/sent"
  after=$(date +%s%3N)
  consume "$topic" -f '%k:%s\n' >"$work/read"
  same "keys and values" "$work/sent" "$work/read"
  consume "$topic" -f '%o\n' | cmp -s - <(seq 0 49) || fail "offsets are not 0 to 49"
  consume "$topic" -f '%h\n' | sort -u >"$work/headers"
  [ "$(cat "$work/headers")" = "first=1,second=zwei" ] || fail "headers: $(head -n 3 "$work/headers")"
  consume "$topic" -f '%T\n' | awk -v a="$before" -v b="$after" '$1 < a || $1 > b { exit 1 }' ||
    fail "a timestamp is not from the time of producing"
}

check_compressions() {
  local codec topic
  for i in $(seq 1 2000); do printf 'line %d %s\n' "$i" "aaaaaaaaaabbbbbbbbbbaaaaaaaaaa"; done >"$work/sent"
  for codec in "$@"; do
    topic=kcat-$codec-$run_id-$RANDOM
    produce "$topic" -p 0 -z "$codec" <"$work/sent"
    consume "$topic" -X check.crcs=true >"$work/read"
    same "$codec" "$work/sent" "$work/read"
  done
}

# offset_at TOPIC TIME: what kcat -Q tells; -1 is the end, -2 the beginning
offset_at() { kcat_ -Q -t "$1:0:$2" | sed -nE 's/.* offset (-?[0-9]+)$/\1/p'; }

check_offsets_by_time() {
  local topic=kcat-time-$run_id expected stamp
  for i in $(seq 1 5); do echo "$i" | produce "$topic" -p 0; done
  consume "$topic" -f '%T %o\n' >"$work/stamps"
  [ "$(offset_at "$topic" -1)" = 5 ] || fail "kcat -Q: the end is not 5"
  [ "$(offset_at "$topic" -2)" = 0 ] || fail "kcat -Q: the beginning is not 0"
  # The stamps are numbers without blanks.
  # shellcheck disable=SC2013
  for stamp in $(cut -d' ' -f1 "$work/stamps"); do
    expected=$(awk -v t="$stamp" '$1 >= t { print $2; exit }' "$work/stamps")
    [ "$(offset_at "$topic" "$stamp")" = "$expected" ] || fail "kcat -Q: the first record at or after $stamp is not $expected"
  done
}

# make_topic NAME: four partitions; kcat itself has no call for it
make_topic() {
  "$python" - "$BOOTSTRAP" "$1" <<'PYTHON' || fail "topic $1 can't be created"
import sys
from confluent_kafka.admin import AdminClient, NewTopic
client = AdminClient({"bootstrap.servers": sys.argv[1]})
client.create_topics([NewTopic(sys.argv[2], 4, 1)])[sys.argv[2]].result(30)
PYTHON
}

# member N: one member of the group in the background, its lines in $work/member.N
member() {
  : >"$work/member.$1"
  timeout -k 5 120 kcat -b "$BOOTSTRAP" "${protocol[@]}" -u -X auto.offset.reset=earliest -X session.timeout.ms=10000 \
    -X heartbeat.interval.ms=300 -X auto.commit.interval.ms=100 \
    -G "$group" "$topic" >"$work/member.$1" 2>"$work/member.$1.err" &
  member_pid=$!
}
owns() { [ "$(grep 'rebalanced.*assigned' "$work/member.$1.err" | tail -n 1 | grep -oE '\[[0-9]+\]' | wc -l)" = "$2" ]; }
got() { [ "$(cat "$work"/member.[12] 2>/dev/null | sort -u | wc -l)" -ge "$1" ]; }

check_group() {
  local first partition
  topic=kcat-grp-topic-$run_id-$RANDOM
  group=kcat-grp-$run_id-$RANDOM
  make_topic "$topic"
  spread() { for partition in 0 1 2 3; do seq -f "$partition-%g" "$1" "$2" | produce "$topic" -p "$partition"; done; }
  spread 1 50
  member 1
  first=$member_pid
  eventually 30 owns 1 4 || fail "the first member has not got all four partitions"
  eventually 30 got 200 || fail "the first member has not read what was there"
  member 2
  eventually 30 owns 2 2 || fail "the second member has not got two partitions"
  eventually 30 owns 1 2 || fail "the first member has not given up two partitions"
  spread 51 100
  eventually 30 got 400 || fail "the two members have not read what was sent to them"
  # timeout passes SIGTERM on, and kcat commits and leaves.
  kill -TERM "$first"
  wait "$first" || true
  eventually 30 owns 2 4 || fail "the second member has not taken over all four partitions"
  spread 101 125
  eventually 30 got 500 || fail "the second member has not read on"
  kill -TERM "$member_pid"
  wait "$member_pid" || true
  for partition in 0 1 2 3; do seq -f "$partition-%g" 1 125; done | sort >"$work/sent"
  sort "$work/member.1" "$work/member.2" >"$work/read"
  same "what the group has read, each line once" "$work/sent" "$work/read"
}

# kcat sends all it is given in one transaction, which the end of its input commits and a signal aborts.
check_transactions() {
  local topic=kcat-txn-$run_id transactional=(-X "transactional.id=kcat-$run_id" -X transaction.timeout.ms=60000) aborted
  seq 1 20 >"$work/sent"
  produce "$topic" -p 0 "${transactional[@]}" <"$work/sent"
  consume "$topic" -X isolation.level=read_committed >"$work/read"
  same "a transaction that is committed" "$work/sent" "$work/read"
  mkfifo "$work/input"
  timeout -k 5 60 kcat -q -b "$BOOTSTRAP" -P -t "$topic" -p 0 "${transactional[@]}" <"$work/input" 2>"$work/aborted.err" &
  aborted=$!
  exec 4>"$work/input"
  # kcat waits for a whole buffer of input before it sends the first line.
  seq 21 20000 >&4
  more_is_there() { [ "$(consume "$topic" -X isolation.level=read_uncommitted | wc -l)" -gt 20 ]; }
  eventually 30 more_is_there || fail "what is sent in an open transaction is not there for readers of uncommitted records"
  consume "$topic" -X isolation.level=read_committed >"$work/read"
  same "readers of committed records while the transaction is open" "$work/sent" "$work/read"
  kill -TERM "$aborted"
  exec 4>&-
  wait "$aborted" || true
  seq 20001 20020 | tee -a "$work/sent" | produce "$topic" -p 0 "${transactional[@]}"
  consume "$topic" -X isolation.level=read_committed >"$work/read"
  same "readers of committed records after one was aborted" "$work/sent" "$work/read"
}

check_refusal() {
  if echo x | bounded 30 kcat -q -b "$BOOTSTRAP" -P -t 'no/such name' -X message.timeout.ms=5000 2>/dev/null; then
    fail "kcat could produce to a topic with a slash and a blank in its name"
  fi
}

check_metadata
check_round_trip
check_compressions none gzip snappy lz4 zstd
check_offsets_by_time
check_transactions
check_group
check_refusal
say "ok: today's protocol"

if old_clients; then
  for era in 0.8.2.2 0.9.0.1 0.10.0.1 0.10.2.1; do
    protocol=(-X api.version.request=false -X "broker.version.fallback=$era")
    codecs=(none gzip snappy)
    # librdkafka writes LZ4 for brokers since 0.10, whose framing follows the standard.
    [[ $era == 0.[89].* ]] || codecs+=(lz4)
    check_compressions "${codecs[@]}"
    [[ $era == 0.8.* ]] || check_group
    say "ok: as a client of $era"
  done
else
  skip_piece "old protocols, OLD_CLIENTS=no"
fi
server_stop
say "all is well"
