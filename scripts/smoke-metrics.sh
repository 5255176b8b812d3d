#!/usr/bin/env bash
# Metrics, health and readiness of a server that does something: promtool finds nothing, the numbers are true.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

needs_chronik "its metrics and admin ports"
need_python
need_promtool
server_start

# status_of HOST:PORT PATH, body_of HOST:PORT PATH
status_of() { http_get "$1" "$2" | head -n 1 | cut -d' ' -f2; }
body_of() { http_get "$1" "$2" | sed '1,/^\r$/d'; }

# value METRIC: the sum over its labels
value() { body_of "$METRICS" /metrics | awk -v m="$1" '$1 == m || index($1, m "{") == 1 { sum += $2 } END { printf "%.0f\n", sum }'; }

[ "$(status_of "$ADMIN" /health)" = 200 ] || fail "GET /health is not answered with 200"
[ "$(status_of "$ADMIN" /ready)" = 200 ] || fail "GET /ready is not answered with 200"
[ "$(status_of "$ADMIN" /no-such-thing)" = 404 ] || fail "an unknown path of the admin port is not answered with 404"
[ "$(status_of "$METRICS" /no-such-thing)" = 404 ] || fail "an unknown path of the metrics port is not answered with 404"

lint() {
  body_of "$METRICS" /metrics >"$work/metrics"
  local status=0
  "$promtool" check metrics <"$work/metrics" >"$work/promtool" 2>&1 || status=$?
  [ "$status" = 0 ] && [ ! -s "$work/promtool" ] && return
  cat "$work/promtool" >&2
  fail "promtool does not like the metrics $1"
}
lint "of a fresh server"
[ "$(value chronik_messages_received_total)" = 0 ] || fail "a fresh server has received messages"

# 500 records from one producer, read by one group that commits 400 and so lags by 100.
"$python" - "$BOOTSTRAP" <<'PYTHON' || fail "the load could not be put on the server"
import sys
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
servers = {"bootstrap.servers": sys.argv[1]}
admin = AdminClient(servers)
admin.create_topics([NewTopic("metered", 1, 1)])["metered"].result(30)
producer = Producer({**servers, "linger.ms": 5})
for i in range(500):
    producer.produce("metered", b"x" * 100, partition=0)
assert producer.flush(30) == 0
consumer = Consumer({**servers, "group.id": "lagging", "auto.offset.reset": "earliest", "enable.auto.commit": False})
consumer.assign([TopicPartition("metered", 0, 0)])
read = 0
while read < 500:
    read += len(consumer.consume(500, timeout=5))
consumer.commit(offsets=[TopicPartition("metered", 0, 400)], asynchronous=False)
consumer.close()
PYTHON

lint "of a server that has worked"
for metric in chronik_messages_received_total chronik_messages_stored_total; do
  [ "$(value $metric)" = 500 ] || fail "$metric is $(value $metric) after 500 messages"
done
for metric in chronik_produce_latency_seconds_count chronik_fetch_latency_seconds_count chronik_storage_usage_bytes; do
  [ "$(value $metric)" -gt 0 ] || fail "$metric is still 0"
done
for metric in chronik_produce_latency_seconds chronik_fetch_latency_seconds; do
  grep -qx "# TYPE $metric histogram" "$work/metrics" || fail "$metric is no histogram"
done
grep -q '^# TYPE chronik_active_connections gauge' "$work/metrics" || fail "there is no chronik_active_connections"
for what in fsync request error lag; do
  grep -qi "^# TYPE chronik_[a-z_]*$what" "$work/metrics" || fail "no metric is about $what"
done
grep -q '^process_' "$work/metrics" || fail "there are no process metrics"
grep -E '^chronik_[a-z_]*lag[a-z_]*\{.*lagging' "$work/metrics" | grep -qE ' 100(\.0)?$' ||
  fail "the lag of a group that has committed 400 of 500 is not told as 100"
server_stop
say "all is well"
