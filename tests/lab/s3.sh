#!/usr/bin/env bash
# The store's tests (cli/tests/s3) against a production server of S3: MinIO, on loopback.
#
#   tests/lab/s3.sh                 installs MinIO by `go install` if it is not there, starts it,
#                                   runs the tests through their fault proxy, stops it; then the
#                                   contract once more over TLS
#   MINIO=/path/to/minio tests/lab/s3.sh
#   TEST=contract tests/lab/s3.sh   only tests with this in their name
#
# The server is a program of its own: nothing of it is linked, and it keeps its data in a folder
# that is removed. It is kept in $SAPWOOD_CI_TOOLS (default ~/.cache/sapwood-ci); building it takes
# some minutes. Ends with the line "N passed, N failed, N skipped": one for each test.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
version=v0.0.0-20260212201848-7aac2a2c5b7c
tools=${SAPWOOD_CI_TOOLS:-${HOME:-/tmp}/.cache/sapwood-ci}
minio=${MINIO:-$tools/bin/minio}
passed=0 failed=0 skipped=0 server= port=

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

skip() { # skip WHY: and ends
    echo "SKIPPED: s3: $1"
    skipped=$((skipped + 1))
    finish
    exit
}

if [ ! -x "$minio" ]; then
    command -v go >/dev/null || skip "no MinIO, and no Go to build one"
    echo "== building MinIO $version into $tools/bin"
    GOBIN=$tools/bin GOTOOLCHAIN=local timeout 600 \
        go install "github.com/minio/minio@$version" >/dev/null 2>&1 || skip "MinIO cannot be built here"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/sapwood-s3.XXXXXX")
cleanup() {
    [ -z "$server" ] || stop
    rm -rf "$work"
}
trap cleanup EXIT

export AWS_ACCESS_KEY_ID=sapwood-lab AWS_SECRET_ACCESS_KEY
AWS_SECRET_ACCESS_KEY=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
mkdir -p "$work/data/bucket" "$work/home" # a folder is a bucket

answers() { # answers PORT: does somebody listen there?
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

start() { # start PORT OPTION…: false when the server does not come up there
    local port=$1
    shift
    HOME=$work/home MINIO_ROOT_USER=$AWS_ACCESS_KEY_ID MINIO_ROOT_PASSWORD=$AWS_SECRET_ACCESS_KEY \
        MINIO_BROWSER=off MINIO_UPDATE=off MINIO_CALLHOME_ENABLE=off \
        "$minio" server --quiet "$@" --address "127.0.0.1:$port" "$work/data" >"$work/log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        kill -0 "$server" 2>/dev/null || return 1
        answers "$port" && return 0
        sleep 0.2
    done
    return 1
}

stop() {
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

serve() { # serve OPTION…: at a port that is free
    for _ in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 20000))
        answers "$port" && continue # somebody else's
        start "$port" "$@" && return 0
        stop
    done
    tail -5 "$work/log"
    echo "FAILED: the server does not start"
    failed=$((failed + 1))
    return 1
}

run() { # run ENDPOINT FILTER…: adds what the tests came to
    local counts p f
    SAPWOOD_S3_URL="s3://bucket?endpoint=$1" timeout -k 10 600 \
        cargo test -p sapwood-cli --test s3 -- --test-threads 2 "${@:2}" 2>&1 | tee "$work/tests" || true
    kill -0 "$server" 2>/dev/null || { echo "FAILED: the server ended by itself"; tail -5 "$work/log"; }
    counts=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed.*/\1 \2/p' "$work/tests")
    read -r p f <<<"${counts:-0 1}"
    passed=$((passed + p)) failed=$((failed + f))
}

cd "$root"
if serve; then
    echo "== $("$minio" --version | head -1) at 127.0.0.1:$port"
    run "http://127.0.0.1:$port" ${TEST:+"$TEST"}
    stop
fi

mkdir "$work/certs"
printf '%s\n' '[req]' 'distinguished_name=dn' 'x509_extensions=ext' 'prompt=no' '[dn]' \
    'CN=sapwood-lab' '[ext]' 'subjectAltName=IP:127.0.0.1' 'basicConstraints=critical,CA:FALSE' \
    >"$work/cert.conf"
if ! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
    -config "$work/cert.conf" -keyout "$work/certs/private.key" -out "$work/certs/public.crt" \
    2>/dev/null; then
    skip "TLS: no openssl to make a certificate"
fi
if serve --certs-dir "$work/certs"; then
    echo "== the same over TLS at 127.0.0.1:$port"
    AWS_CA_BUNDLE=$work/certs/public.crt run "https://127.0.0.1:$port" s3_keeps_the_contract
    stop
fi
finish
