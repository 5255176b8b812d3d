#!/usr/bin/env bash
# Object storage against a server of its own: moto, which speaks S3's protocol. scripts/stores tests more of them.
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

need_python
stores=$repo/.venv/store
make_venv "$stores" "$smoke/requirements-store.txt" || skip "moto can't be installed with pip"

port=$(free_port)
"$stores/bin/moto_server" -H 127.0.0.1 -p "$port" >"$work/moto.log" 2>&1 </dev/null &
listens() { ! port_is_closed "$port"; }
eventually 60 listens || { tail -n 5 "$work/moto.log" >&2; fail "moto did not start"; }
"$python" "$smoke/make_bucket.py" s3 "http://127.0.0.1:$port" contract-bucket

export CHRONIK_CONTRACT_URL=s3://contract-bucket S3_ENDPOINT=http://127.0.0.1:$port
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
# moto overlooks the condition of an upload in parts, as S3 does not.
export CHRONIK_STORE_PARTS_UNCONDITIONAL=1
(cd "$repo" && bounded 900 cargo test --quiet --test all store::servers) || fail "moto does not keep the contract of stores"
say "moto keeps the contract of stores"
