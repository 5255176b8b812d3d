# shellcheck shell=bash
# Shared by the scripts that run JVM software against the server: jars, compiling, and a real Kafka beside ours.
#
# CHRONIK_CACHE    where jars and compiled classes are kept (default ~/.cache/chronik-interop)
# CHRONIK_PEERS    folder with a harness `kafka/kafka` (install, start, stop): what is printed is then compared with what a
#                  real Kafka makes the same program print in the same run. Without it the committed recording is used.
# RECORD           1: write what the real Kafka prints into the recording (needs CHRONIK_PEERS)
# ONLY             ours or kafka: that side alone, shown and not compared
# CHRONIK_SERVER, BOOTSTRAP and CI are those of scripts/lib.sh

# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib.sh"

interop=$repo/scripts/interop
cache=${CHRONIK_CACHE:-$HOME/.cache/chronik-interop}
jvm_options=(-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true
  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true
  -Dorg.slf4j.simpleLogger.showShortLogName=true)

# --- which server -----------------------------------------------------------------------------------------------

# Two servers are tested in one run, so which one is meant is not what the environment says but the side.
side=ours
is_peer() { [ "$side" = kafka ]; }
have_peer() { [ -n "${CHRONIK_PEERS:-}" ]; }

# What Kafka keeps in topics of fifty partitions it makes for the first who asks; one is as good here, and quicker.
kafka_props=(offsets.topic.num.partitions=1 transaction.state.log.num.partitions=1
  share.coordinator.state.topic.num.partitions=1 transaction.abort.timed.out.transaction.cleanup.interval.ms=500)

# begin SIDE [OPTION...]: starts that server on empty data; the options go to ours
begin() {
  side=$1
  shift
  kafka_port=$(free_port)
  data_dir=$work/data-$side
  if is_peer; then kafka_begin; else server_start "$@"; fi
}

kafka_begin() {
  peer_port=$kafka_port
  server_log=$work/kafka/broker.log
  local options=() one
  for one in "${kafka_props[@]}"; do options+=(--prop "$one"); done
  peer start --port "$peer_port" --heap 400m "${options[@]}" >"$work/kafka.start" 2>&1 ||
    { cat "$work/kafka.start" >&2; fail "Kafka did not start"; }
  BOOTSTRAP=127.0.0.1:$peer_port
}

# again [OPTION...]: the same server on the same port and data
again() { if is_peer; then kafka_begin; else server_start "$@"; fi; }

end() {
  if is_peer; then
    peer stop --kill --wipe >/dev/null 2>&1 || true
    # The other server may be given the same port.
    eventually 10 port_is_closed "$kafka_port" || true
    peer_port=''
  else
    server_stop
  fi
}

# --- programs that check by themselves --------------------------------------------------------------------------

# copy_to_cache FOLDER: scripts/interop/FOLDER as $copy below the cache, where packages may be fetched next to it
copy_to_cache() {
  copy=$cache/$1
  mkdir -p "$copy"
  cp -R "$interop/$1/." "$copy/"
}

# on_sides COMMAND...: runs the command against each server that is wanted; @ among the arguments is its address
on_sides() {
  local one arguments failed='' argument
  for one in $(sides); do
    begin "$one"
    arguments=()
    for argument in "$@"; do [ "$argument" != @ ] || argument=$BOOTSTRAP; arguments+=("$argument"); done
    say "against ${one/ours/our server}:"
    "${arguments[@]}" || failed="$failed $one"
    end
  done
  [ -z "$failed" ] || fail "checks failed against:$failed"
  say "all is well"
}

# --- jars and classes -------------------------------------------------------------------------------------------

need_java() {
  need_command javac default-jdk-headless
  need_command mvn maven
}

# jars PROFILE VERSION: sets $jars to a folder with that part of Kafka in that version
jars() {
  local version=$2 profile=$1 tmp
  jars=$cache/$profile-$version
  [ ! -d "$jars" ] || return 0
  mkdir -p "$cache"
  tmp=$(mktemp -d "$cache/fetch.XXXXXX")
  bounded 600 mvn -q -B -ntp -Dstyle.color=never -f "$interop/java/pom.xml" -P "$profile" "-D$profile.version=$version" \
    dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$tmp" >"$work/mvn.log" 2>&1 ||
    { tail -n 15 "$work/mvn.log" >&2; rm -rf "$tmp"; skip "Maven can't fetch the jars of $profile $version"; }
  chmod 755 "$tmp"
  mv -T "$tmp" "$jars" 2>/dev/null || rm -rf "$tmp"
}

# pinned PROFILE: the version that the pom names for it
pinned() { sed -n "s:.*<$1\\.version>\\(.*\\)</$1\\.version>.*:\\1:p" "$interop/java/pom.xml"; }

# compile FOLDER: compiles scripts/interop/java/FOLDER against $jars; sets $classes
compile() {
  classes=$work/classes-$1-$(basename -- "$jars")
  mkdir -p "$classes"
  javac -nowarn -proc:none -encoding UTF-8 -cp "$jars/*" -d "$classes" "$interop/java/$1"/*.java >"$work/javac.log" 2>&1 ||
    { cat "$work/javac.log" >&2; fail "scripts/interop/java/$1 does not compile against $(basename -- "$jars")"; }
}

# jvm SECONDS CLASS ARGUMENT...: runs a compiled class, bounded
jvm() {
  local seconds=$1
  shift
  bounded "$seconds" java "${jvm_options[@]}" -cp "$classes:$jars/*" "$@"
}

# --- comparing --------------------------------------------------------------------------------------------------

# without EXCEPTIONS FILE: the file without what may differ. A line of EXCEPTIONS that begins with s/ is a substitution (of
# sed -E) that makes lines alike; one that begins with "command " is a regular expression of "$ command" lines below which
# all is left out; one that begins with "kafka " is a regular expression of lines' beginnings, and the lines are left out that
# begin so as none of the other file does (see ours_lacks); any other is an extended regular expression of lines to leave out;
# those that begin with # give the reason of the ones that follow.
without() {
  grep -vE '^(#|$|s/|command |kafka )' "$1" >"$work/exceptions" || true
  grep -E '^s/' "$1" >"$work/substitutions" || true
  sed -n 's/^command //p' "$1" >"$work/commands"
  awk -v list="$work/commands" 'BEGIN { while ((getline line <list) > 0) all[++n] = line }
    /^\$ / { left_out = 0; for (i = 1; i <= n; i++) if ($0 ~ all[i]) left_out = 1 }
    !left_out || /^\$ /' "$2" | sed -E -f "$work/substitutions" |
    if [ -s "$work/exceptions" ]; then grep -vE -f "$work/exceptions" || true; else cat; fi
}

# ours_lacks EXCEPTIONS OF-KAFKA OF-OURS: Kafka's file without the lines for which there is none of ours that begins alike
ours_lacks() {
  sed -n 's/^kafka //p' "$1" >"$work/lacking"
  awk -v list="$work/lacking" 'BEGIN { while ((getline line <list) > 0) all[++n] = line }
    function head(line, i) { for (i = 1; i <= n; i++) if (match(line, all[i])) return substr(line, RSTART, RLENGTH); return "" }
    NR == FNR { if (head($0) != "") known[head($0)] = 1; next }
    head($0) == "" || head($0) in known' "$3" "$2"
}

# unused EXCEPTIONS FILE...: says which exceptions match no line: they have gone stale
unused() {
  local list=$1 pattern
  shift
  while IFS= read -r pattern; do
    pattern=${pattern#command }
    pattern=${pattern#kafka }
    { grep -qE -- "$pattern" "$@" || sed -E -f "$work/substitutions" "$@" | grep -cE -- "$pattern" >/dev/null; } ||
      say "an exception matches nothing: $pattern"
  done < <(grep -vE '^(#|$|s/)' "$list")
}

# compare WHAT EXCEPTIONS OF-KAFKA OF-OURS: counts in $differing what is not alike, and shows it
differing=0
compare() {
  local kafka=$work/compare.kafka ours=$work/compare.ours count
  ours_lacks "$2" "$3" "$4" >"$kafka.whole"
  without "$2" "$kafka.whole" >"$kafka"
  without "$2" "$4" >"$ours"
  unused "$2" "$3" "$4"
  if cmp -s "$kafka" "$ours"; then
    say "$1: $(wc -l <"$ours") lines alike"
    return 0
  fi
  # What a line belongs to stands above it: "$ command" for the tools.
  diff -U 0 -F '^\$' --label Kafka --label ours "$kafka" "$ours" | sed 's/^@@.*@@ \?//' >&2 || true
  count=$(diff "$kafka" "$ours" | grep -c '^[<>]' || true)
  say "$1: $count lines differ from Kafka's"
  differing=$((differing + count))
}

# sides: which servers this run starts, the real Kafka first
sides() {
  case ${ONLY:-} in
    ours | kafka) printf '%s\n' "$ONLY" ;;
    '') if have_peer; then printf 'kafka\n'; fi; printf 'ours\n' ;;
    *) fail "ONLY is ours or kafka" ;;
  esac
}

# settle WHAT RECORDING EXCEPTIONS OUTPUT [PATTERN]: compares OUTPUT.ours with OUTPUT.kafka of this run, or with the
# recording's lines that match the pattern; with RECORD=1 the recording becomes what Kafka printed
settle() {
  local what=$1 recording=$2 exceptions=$3 output=$4 pattern=${5:-.}
  if [ "${RECORD:-}" = 1 ]; then
    [ -s "$output.kafka" ] || fail "RECORD=1 needs CHRONIK_PEERS"
    mkdir -p "$(dirname -- "$recording")"
    [ -e "$recording" ] || : >"$recording"
    # What is new goes where the old stood: the order is that of the program.
    sed -E "s:$work:DIR:g; s/(127\.0\.0\.1:)[0-9]+/\1PORT/g" "$output.kafka" |
      PATTERN=$pattern awk 'NR == FNR { new = new $0 "\n"; next }
        $0 !~ ENVIRON["PATTERN"] { print; next } !told { printf "%s", new; told = 1 }
        END { if (!told) printf "%s", new }' - "$recording" >"$work/recording"
    mv "$work/recording" "$recording"
  fi
  if [ -n "${ONLY:-}" ]; then cat "$output.$ONLY"; return 0; fi
  if ! have_peer; then
    [ -s "$recording" ] || skip "no recording of what Kafka prints, and CHRONIK_PEERS names no real one"
    grep -E -- "$pattern" "$recording" >"$output.kafka" || true
  fi
  compare "$what" "$exceptions" "$output.kafka" "$output.ours"
}
