#!/usr/bin/env bash
# kill -9 under load, again and again: every acknowledged record is at its offset, an idempotent producer's exactly
# once, and a member of a group goes on as if nothing had been. Small segments and a second topic, which is compacted and whose
# records all have keys of their own, keep tidying and compaction at work meanwhile.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

rounds=${ROUNDS:-4}
per_round=${PER_ROUND:-2000}

need_python
needs_own_server "it is killed"
kafka_port=$(free_port)
set -- --log-segment-bytes 16MiB --log-roll-ms 1000 --log-cleaner-backoff-ms 100 "$@"
server_start "$@"
topic=crash-$$

"$python" - "$BOOTSTRAP" "$topic" <<'PYTHON' || fail "topic $topic can't be created"
import sys
from confluent_kafka.admin import AdminClient, NewTopic
client = AdminClient({"bootstrap.servers": sys.argv[1]})
client.create_topics([NewTopic(sys.argv[2], 3, 1)])[sys.argv[2]].result(30)
compacted = sys.argv[2] + "-compacted"
config = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.bytes": "1048576", "segment.ms": "500"}
client.create_topics([NewTopic(compacted, 3, 1, config=config)])[compacted].result(30)
PYTHON

# background NAME COMMAND...: its pid goes to $pids, its output to $work/NAME.log
declare -A pids
background() {
  local what=$1
  shift
  "$@" >"$work/$what.log" 2>&1 &
  pids[$what]=$!
}
everyone_is_there() {
  local what
  for what in "${!pids[@]}"; do
    kill -0 "${pids[$what]}" 2>/dev/null || { tail -n 20 "$work/$what.log" >&2; fail "$what ended by itself"; }
  done
}
# finish NAME: SIGTERM, and status 0 within a bound
finish() {
  local status=0
  kill -TERM "${pids[$1]}"
  gone() { ! kill -0 "${pids[$1]}" 2>/dev/null; }
  eventually 130 gone "$1" || fail "$1 did not come to an end"
  wait "${pids[$1]}" || status=$?
  unset "pids[$1]"
  [ "$status" = 0 ] || { tail -n 40 "$work/$1.log" >&2; fail "$1 ended with status $status"; }
}

for producer in "idem confluent $topic" "plain kafka-python $topic" "compacted confluent $topic-compacted"; do
  read -r role client into <<<"$producer"
  : >"$work/$role.acks"
  background "$role" "$python" "$smoke/crash_producer.py" --bootstrap "$BOOTSTRAP" --topic "$into" --name "$role" \
    --acks "$work/$role.acks" "$client"
done
roles=(idem plain compacted)
handled=()
# A real Kafka, while it starts, tells its clients for a moment of no topics and groups, and librdkafka then joins anew.
if ! is_peer || [ "$rounds" = 0 ]; then
  roles+=(member)
  handled=(--handled "$work/member.records")
  : >"$work/member.records"
  background member "$python" "$smoke/crash_member.py" --bootstrap "$BOOTSTRAP" --topic "$topic" \
    --group "crash-group-$$" --records "$work/member.records"
fi

# grown: both producers have got another $per_round acknowledgements, and the member has read on as far
declare -A files=([idem]=$work/idem.acks [plain]=$work/plain.acks [compacted]=$work/compacted.acks [member]=$work/member.records)
declare -A before=([idem]=0 [plain]=0 [compacted]=0 [member]=0)
count() { wc -l <"${files[$1]}"; }
grown() {
  everyone_is_there
  local role
  for role in "${roles[@]}"; do [ "$(count "$role")" -ge $((before[$role] + per_round)) ] || return 1; done
}
remember() { for role in "${roles[@]}"; do before[$role]=$(count "$role"); done; }

for round in $(seq 1 "$rounds"); do
  eventually 60 grown || fail "round $round: no progress: $(count idem) + $(count plain) acknowledged"
  server_kill
  remember
  say "round $round: killed after $(count idem) + $(count plain) acknowledgements"
  server_start "$@"
done
eventually 60 grown || fail "after the last restart: no progress"
tidied() { is_peer || compgen -G "$data_dir/packs/*.seg" >/dev/null; }
eventually 60 tidied || fail "nothing was tidied or compacted"
for role in "${roles[@]}"; do finish "$role"; done
# librdkafka gives up a request on a connection that stays open: the server has swallowed it.
if [ -s "$work/member.log" ] && grep -E 'Timed out [1-9][0-9]* in-flight' "$work/member.log" >&2; then fail "a request of the member was never answered"; fi

verify() {
  bounded 150 "$python" "$smoke/crash_verify.py" --bootstrap "$BOOTSTRAP" --topic "$topic" --acks "$work/idem.acks" \
    --acks "$work/plain.acks" --idempotent idem "${handled[@]}" || fail "see above"
  bounded 150 "$python" "$smoke/crash_verify.py" --bootstrap "$BOOTSTRAP" --topic "$topic-compacted" \
    --acks "$work/compacted.acks" --idempotent compacted || fail "see above"
}
say "as it runs:"
verify
server_kill
server_start "$@"
say "after one more kill -9, with nothing under way:"
verify
server_stop
server_start "$@"
say "after a clean stop:"
verify
server_stop
say "all is well"
