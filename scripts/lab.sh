#!/usr/bin/env bash
# The network lab: real nodes in network namespaces, which are machines as far as the network goes.
#
#   scripts/lab.sh [SCENARIO]
#
#   mdns   three nodes on one bridge that were told no address find each other
#
# Needs root and `ip` with namespaces. Prints PASS, FAIL or SKIP for each scenario; exits 1 if one
# failed. Takes the binary from QULOUD_BIN, or builds it. Nothing is left behind.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly NODES=3
readonly PATIENCE_S=60
lab="qlab$$"
folder=""
pids=()

cleanup() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    for name in switch $(seq "$NODES"); do
        ip netns delete "$lab-$name" 2>/dev/null || true
    done
    [ -z "$folder" ] || rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

skip() {
    echo "SKIP $scenario: $1"
    exit 0
}

fail() {
    echo "FAIL $scenario: $1"
    for node in $(seq "$NODES"); do
        echo "node $node has $(peers_of "$node") peers; its last words:"
        tail -qn 5 "$folder/$node".{init,err} 2>/dev/null || true
    done
    exit 1
}

# The bridge stands in a namespace of its own: the machine's own network is not touched.
make_network() {
    ip netns add "$lab-switch" 2>/dev/null || skip "namespaces cannot be made here"
    local switch=(ip -n "$lab-switch")
    # Without a querier a snooping bridge forgets who listens to multicast.
    "${switch[@]}" link add lan type bridge mcast_snooping 0 2>/dev/null \
        || skip "bridges cannot be made here"
    "${switch[@]}" link set lan up
    for node in $(seq "$NODES"); do
        ip netns add "$lab-$node"
        ip -n "$lab-$node" link add eth0 type veth peer name "port$node" netns "$lab-switch"
        "${switch[@]}" link set "port$node" master lan up
        ip -n "$lab-$node" addr add "10.77.0.$node/24" dev eth0
        ip -n "$lab-$node" link set lo up
        ip -n "$lab-$node" link set eth0 up
    done
}

start_nodes() {
    for node in $(seq "$NODES"); do
        local data="$folder/$node"
        "$binary" --data-dir "$data" init --yes --words-file "$data.words" >"$data.init" 2>&1 \
            || fail "init of node $node"
        ip netns exec "$lab-$node" "$binary" --data-dir "$data" \
            up --listen /ip4/0.0.0.0/tcp/0 --mdns on >"$data.out" 2>"$data.err" &
        pids+=($!)
    done
}

# How many peers a node has; its socket is a file, so it can be asked from out here.
peers_of() {
    "$binary" --data-dir "$folder/$1" status --json 2>/dev/null \
        | grep -o '"peers": *[0-9]*' | grep -o '[0-9]*$' || echo 0
}

all_met() {
    for node in $(seq "$NODES"); do
        [ "$(peers_of "$node")" -eq $((NODES - 1)) ] || return 1
    done
}

run_mdns() {
    make_network
    start_nodes
    local started=$SECONDS
    until all_met; do
        [ $((SECONDS - started)) -lt "$PATIENCE_S" ] || fail "not all met within $PATIENCE_S s"
        for pid in "${pids[@]}"; do
            kill -0 "$pid" 2>/dev/null || fail "a node has ended"
        done
        sleep 0.2
    done
    echo "PASS mdns: $NODES nodes met within $((SECONDS - started + 1)) s"
}

scenario="${1:-mdns}"
[ "$scenario" = mdns ] || { echo "unknown scenario: $scenario (known: mdns)"; exit 2; }
[ "$(id -u)" -eq 0 ] || skip "not root"
command -v ip >/dev/null || skip "no ip command"
if [ -n "${QULOUD_BIN:-}" ]; then
    binary="$QULOUD_BIN"
    unset QULOUD_BIN # the node takes every such variable for a setting
else
    cargo build --quiet --bin quloud
    binary="$PWD/${CARGO_TARGET_DIR:-target}/debug/quloud"
fi
folder="$(mktemp -d)"
"run_$scenario"
