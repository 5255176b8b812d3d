# shellcheck shell=bash
# Shared by scripts/test, scripts/smoke-*.sh and scripts/trace-acks: tools, the server under test, clean-up.
#
# CHRONIK_SERVER   the server to test; without it the dev build, built first
# CHRONIK_TOOL     the tool chronik to test; without it the dev build, built first
# CHRONIK_BENCHES  folder with programs of benches/, by their names; without it they are built
# BOOTSTRAP        HOST:PORT of a server that runs already: test that one and start none
# CHRONIK_PEERS    folder with a harness `kafka/kafka` (install, start, stop): test a real Kafka in place of ours
# OLD_CLIENTS      no: leave out what speaks protocols from before 2.1, which Kafka 4 has dropped
# STORE_URL        an empty place for tests in a store, whose keys are in the environment, for the scripts that say so; without it what
#                  the environment says of stores is left out
# CI               true: what can't run is a failure and not a skip

set -euo pipefail

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
smoke=$repo/scripts/smoke
name=$(basename -- "$0" .sh)
skip_status=77

say() { printf '%s: %s\n' "$name" "$*"; }
fail() { printf '%s: FAILED: %s\n' "$name" "$*" >&2; exit 1; }

# skip REASON: this script can't run here
skip() {
  [ "${CI:-}" != true ] || fail "can't run, and CI=true makes that a failure: $*"
  say "SKIPPED: $*"
  exit "$skip_status"
}

# skip_piece REASON: the rest of the script runs
skip_piece() {
  [ "${CI:-}" != true ] || fail "can't run a piece, and CI=true makes that a failure: $*"
  say "SKIPPED a piece: $*"
}

have() { command -v "$1" >/dev/null 2>&1; }

# bounded SECONDS COMMAND...: ends the command when it takes longer
bounded() {
  local seconds=$1 status=0
  shift
  timeout -k 5 "$seconds" "$@" || status=$?
  [ "$status" != 124 ] || printf '%s: not done after %s s: %s\n' "$name" "$seconds" "$*" >&2
  return "$status"
}

# eventually SECONDS COMMAND...: asks again and again until the command succeeds
eventually() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || return 1
    sleep 0.05
  done
}

old_clients() { [ "${OLD_CLIENTS:-yes}" != no ]; }

# same WHAT EXPECTED SEEN: two files are equal, or the first lines that differ are shown
same() {
  cmp -s "$2" "$3" && return 0
  diff "$2" "$3" | head -n 10 >&2 || true
  fail "$1: what came back is not what was sent"
}

# --- tools ------------------------------------------------------------------------------------------------------

apt_install() {
  have apt-get && [ "$(id -u)" = 0 ] || return 1
  local log=$repo/target/apt.log
  mkdir -p "$repo/target"
  {
    DEBIAN_FRONTEND=noninteractive bounded 300 apt-get install -y --no-install-recommends "$@" ||
      { bounded 300 apt-get update && DEBIAN_FRONTEND=noninteractive bounded 300 apt-get install -y --no-install-recommends "$@"; }
  } >"$log" 2>&1
}

# need_command COMMAND PACKAGE: makes sure that a command is there, or skips the script
need_command() {
  have "$1" || apt_install "$2" || true
  have "$1" || skip "$1 is not installed (package $2) and can't be installed from here"
}

# make_venv FOLDER REQUIREMENTS: a Python environment with these packages; made again when the list changes
make_venv() {
  local folder=$1 wanted=$2
  ! cmp -s "$wanted" "$folder/installed.txt" || return 0
  mkdir -p "$repo/target"
  {
    python3 -m venv "$folder" || { apt_install python3-venv && python3 -m venv "$folder"; }
    bounded 600 "$folder/bin/pip" install --quiet --upgrade -r "$wanted"
  } >"$repo/target/pip.log" 2>&1 || { tail -n 5 "$repo/target/pip.log" >&2; return 1; }
  cp "$wanted" "$folder/installed.txt"
}

# need_python: $python runs with today's clients, unpinned
need_python() {
  need_command python3 python3
  # shellcheck disable=SC2034 # the scripts use it
  python=$repo/.venv/bin/python
  make_venv "$repo/.venv" "$smoke/requirements.txt" || skip "the Python clients can't be installed with pip"
  export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
}

# need_loadgen: $loadgen is the load generator in the folder CHRONIK_PEERS, which names nothing from here on
need_loadgen() {
  local peers=${CHRONIK_PEERS:-}
  unset CHRONIK_PEERS # it would make the server under test a real Kafka
  [ -n "$peers" ] || skip "CHRONIK_PEERS names no folder with a load generator"
  need_command python3 python3
  # shellcheck disable=SC2034 # the scripts use it
  loadgen=$("$peers/compare" --build) || fail "the load generator can't be built"
}

# need_promtool: $promtool is there; without installing (and so starting) a Prometheus server
need_promtool() {
  promtool=$(command -v promtool || true)
  [ -z "$promtool" ] || return 0
  local folder=$repo/.venv/promtool
  promtool=$folder/usr/bin/promtool
  [ ! -x "$promtool" ] || return 0
  have dpkg-deb || skip "promtool is not installed and this is no Debian to fetch it from"
  mkdir -p "$folder"
  (
    cd "$folder"
    bounded 300 apt-get download prometheus || { bounded 300 apt-get update && bounded 300 apt-get download prometheus; }
    dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb
  ) >"$folder/fetch.log" 2>&1 || true
  [ -x "$promtool" ] || skip "promtool can't be fetched with apt-get (package prometheus)"
}

# build_server FOLDER [CARGO OPTION...]: builds the dev profile below FOLDER and prints where the program is
build_server() {
  local target=$1
  shift
  (cd "$repo" && cargo build --quiet --bin chronik-server --target-dir "$target" "$@") >&2 || return 1
  printf '%s/debug/chronik-server\n' "$target"
}

# --- the server under test --------------------------------------------------------------------------------------

external=${BOOTSTRAP:-}
work=$(mktemp -d)
data_dir=$work/data
server_pid=''
server_log=''
server_runs=0
kafka_port=0

# What the environment says to some other server must not reach the one under test; of a store only with STORE_URL, which is one for
# tests.
for variable in $(compgen -e CHRONIK_) RUST_LOG STORAGE_BACKEND; do
  case $variable in CHRONIK_SERVER | CHRONIK_TOOL | CHRONIK_BENCHES | CHRONIK_PEERS | CHRONIK_CACHE) ;; *) unset "$variable" ;; esac
done
# shellcheck source=scripts/smoke/no-store.sh
[ -n "${STORE_URL:-}" ] || . "$smoke/no-store.sh"

clean_up() {
  local status=$?
  trap - EXIT INT TERM
  if [ "$status" != 0 ] && [ "$status" != "$skip_status" ] && [ -s "$server_log" ]; then
    printf '%s: the last lines of the server:\n' "$name" >&2
    tail -n 25 "$server_log" | cut -c 1-300 | sed 's/^/  | /' >&2
  fi
  local pid
  {
    for pid in $(jobs -p); do kill -KILL "$pid" || true; done
    [ -z "${peer_port:-}" ] || peer stop --kill || true
    wait || true
  } >/dev/null 2>&1
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# peer COMMAND [OPTION...]: the harness of the real Kafka, on its folder and port
peer() {
  local command=$1
  shift
  "$CHRONIK_PEERS/kafka/kafka" "$command" --dir "$work/kafka" "$@"
}

is_peer() { [ -n "${CHRONIK_PEERS:-}" ]; }

# needs_own_server WHY: for checks that stop servers, or look inside them
needs_own_server() {
  [ -z "$external" ] || skip "needs a server of its own ($1), and BOOTSTRAP names one that runs"
}
needs_chronik() {
  needs_own_server "$1"
  ! is_peer || skip "is about chronik-server alone ($1)"
}

# find_server: $CHRONIK_SERVER is a program
find_server() {
  [ -z "${CHRONIK_SERVER:-}" ] || { [ -x "$CHRONIK_SERVER" ] || fail "no program at CHRONIK_SERVER=$CHRONIK_SERVER"; return 0; }
  CHRONIK_SERVER=$(build_server "${CARGO_TARGET_DIR:-$repo/target}") || fail "the server can't be built"
}

# find_tool: $CHRONIK_TOOL is the command-line tool
find_tool() {
  [ -z "${CHRONIK_TOOL:-}" ] || { [ -x "$CHRONIK_TOOL" ] || fail "no program at CHRONIK_TOOL=$CHRONIK_TOOL"; return 0; }
  (cd "$repo" && cargo build --quiet --bin chronik --target-dir "${CARGO_TARGET_DIR:-$repo/target}") >&2 || fail "the tool can't be built"
  CHRONIK_TOOL=${CARGO_TARGET_DIR:-$repo/target}/debug/chronik
}

# find_benches NAME...: the folder $benches has these programs of benches/
find_benches() {
  benches=${CHRONIK_BENCHES:-$work/benches}
  local bench
  for bench in "$@"; do
    [ -z "${CHRONIK_BENCHES:-}" ] || { [ -x "$benches/$bench" ] || fail "no program $bench in CHRONIK_BENCHES=$benches"; continue; }
    mkdir -p "$benches"
    (cd "$repo" && cargo bench --quiet --no-run --bench "$bench" --message-format json) |
      sed -nE 's/.*"executable":"([^"]+)".*/\1/p' | tail -n 1 | xargs -I{} ln -s {} "$benches/$bench"
    [ -x "$benches/$bench" ] || fail "the bench $bench can't be built"
  done
}

# address WHAT: where the server says it serves WHAT
address() { sed -nE "s/.*$1 on ([0-9.]+:[0-9]+).*/\\1/p" "$server_log" | head -n 1; }

server_is_up() {
  kill -0 "$server_pid" 2>/dev/null || { tail -n 10 "$server_log" >&2; fail "the server ended while starting"; }
  [ -n "$(address 'Kafka protocol')" ]
}

# launch [OPTION...]: starts chronik-server on loopback without waiting for it
launch() {
  server_runs=$((server_runs + 1))
  server_log=$work/server.$server_runs.log
  : >"$server_log" # it is looked into before the server has got so far
  "${launcher[@]}" "$CHRONIK_SERVER" --bind-addr 127.0.0.1 --kafka-port "$kafka_port" --admin-port 0 --metrics-port 0 \
    --data-dir "$data_dir" "$@" </dev/null >"$server_log" 2>&1 &
  server_pid=$!
}
launcher=(env)

# server_start [OPTION...]: starts the server and sets $BOOTSTRAP, $METRICS and $ADMIN; the second time on the same
# port and data. With BOOTSTRAP given from outside there is nothing to do.
server_start() {
  [ -z "$external" ] || return 0
  if is_peer; then
    [ "$kafka_port" != 0 ] || kafka_port=$(free_port)
    peer_port=$kafka_port
    server_log=$work/kafka/broker.log
    peer start --port "$peer_port" --heap 512m --prop group.initial.rebalance.delay.ms=100 >/dev/null || fail "Kafka did not start"
    BOOTSTRAP=127.0.0.1:$peer_port
    return 0
  fi
  find_server
  launch "$@"
  eventually 30 server_is_up || fail "the server printed no 'Kafka protocol on ADDR:PORT' within 30 s"
  BOOTSTRAP=$(address 'Kafka protocol')
  METRICS=$(address metrics)
  ADMIN=$(address admin)
  kafka_port=${BOOTSTRAP##*:}
  eventually 30 server_is_ready || fail "GET /ready on $ADMIN was not answered with 200 within 30 s"
  export METRICS ADMIN
}
server_is_ready() { [ -z "$ADMIN" ] || http_get "$ADMIN" /ready 2>/dev/null | head -n 1 | grep -q ' 200 '; }

# server_kill: kill -9
server_kill() {
  if is_peer; then
    peer stop --kill >/dev/null
    eventually 10 port_is_closed "$kafka_port"
    return 0
  fi
  kill -KILL "$server_pid" 2>/dev/null || fail "the server was gone before it was killed"
  wait "$server_pid" 2>/dev/null || true
}

port_is_closed() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
server_gone() { ! kill -0 "$server_pid" 2>/dev/null; }

# server_stop [SECONDS]: SIGTERM; the server must end by itself with status 0
server_stop() {
  [ -z "$external" ] || return 0
  if is_peer; then peer stop >/dev/null; return 0; fi
  kill -TERM "$server_pid" 2>/dev/null || fail "the server was gone before it was stopped"
  eventually "${1:-20}" server_gone || fail "the server was still there ${1:-20} s after SIGTERM"
  local status=0
  wait "$server_pid" || status=$?
  [ "$status" = 0 ] || fail "the server ended with status $status after SIGTERM, and not with 0"
}

# use_store URL: the environment names this place as the second tier, to the server and to the tool; $tier_url is its name
use_store() {
  # shellcheck disable=SC2034 # the scripts use it
  tier_url=$1
  local rest=${1#*://}
  no_store
  case $1 in
    file://*) export LOCAL_STORAGE_PATH=$rest ;;
    s3://*) export STORAGE_BACKEND=s3 S3_BUCKET=${rest%%/*} S3_PREFIX=${rest#*/} ;;
    gs://*) export STORAGE_BACKEND=gcs GCS_BUCKET=${rest%%/*} GCS_PREFIX=${rest#*/} ;;
    azure://*) export STORAGE_BACKEND=azure AZURE_CONTAINER=${rest%%/*} AZURE_PREFIX=${rest#*/} ;;
    *) fail "$1 names no store" ;;
  esac
}
# no_store: there is no second tier
no_store() {
  unset STORAGE_BACKEND LOCAL_STORAGE_PATH S3_BUCKET S3_PREFIX GCS_BUCKET GCS_PREFIX AZURE_CONTAINER AZURE_PREFIX
}

# free_port: below the range from which the system takes ports for clients. A client that tries again and again while
# the server is away could otherwise be given that very port, and be connected with itself.
free_port() {
  python3 - <<'PYTHON'
import random
import socket
for port in random.sample(range(20000, 30000), 200):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(port)
        break
PYTHON
}

# http_get HOST:PORT PATH: the whole answer, head and body
http_get() {
  # The single quotes are meant: the inner shell expands its own arguments.
  # shellcheck disable=SC2016
  bounded 10 bash -c 'exec 3<>"/dev/tcp/${1%:*}/${1##*:}"
    printf "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" "$2" "$1" >&3
    cat <&3' http_get "$1" "$2"
}
# metric NAME: the value of the server's metric that has no labels
metric() { http_get "$METRICS" /metrics | sed -nE "s/^$1 ([0-9]+).*/\1/p"; }
