#!/usr/bin/env bash
# The one gate: everything that must hold before a change goes in. Runs all steps, tells the
# seconds of each beside its budget (cold, on two cores), and fails if any of them failed.
#
#   scripts/check.sh            all steps
#   scripts/check.sh fmt tests  only these
#
# A step that cannot run here (no root, no network, no tool) says SKIP and why; with CI set in the
# environment a missing tool is a failure. RUSTFLAGS stay as they are in every step, so that one
# target folder serves them all.
set -u
cd "$(dirname "$0")/.." || exit 1

readonly SKIPPED=77
only=("$@")
table=()
failed=0

# step NAME BUDGET COMMAND...: runs it, unless other steps were asked for.
step() {
    local name=$1 budget=$2 started=$SECONDS word=PASS code seconds
    shift 2
    if [ ${#only[@]} -gt 0 ] && [[ " ${only[*]} " != *" $name "* ]]; then
        return
    fi
    printf '\n== %s\n' "$name"
    "$@"
    code=$?
    seconds=$((SECONDS - started))
    if [ $code -eq $SKIPPED ]; then
        word=SKIP
    elif [ $code -ne 0 ]; then
        word=FAIL
        failed=1
    elif [ $seconds -gt "$budget" ]; then
        word="PASS, over its budget"
    fi
    table+=("$(printf '%-12s %5d s of %4d  %s' "$name" "$seconds" "$budget" "$word")")
}

skip() {
    echo "SKIP: $1"
    return $SKIPPED
}

fmt() {
    cargo fmt --all --check
}

# With the planted bugs, too: they are compiled in nowhere else but for `mutants`, which is also
# what tests them, in the step netsim. It plays the scenarios that have to show one, with it and
# without, and looks for each of the others: so what is only tested with the feature is tested in
# seconds by an optimised build, where unit tests of it would take minutes to compile and run.
clippy() {
    cargo clippy --locked --workspace --all-targets -- -D warnings || return 1
    cargo clippy --locked -p quloud-netsim --all-targets --features planted-bugs -- -D warnings
}

# The README's command, once.
tests() {
    grep -qF 'cargo test --workspace' README.md || {
        echo "FAIL: README.md does not name the command that is run here"
        return 1
    }
    cargo test --workspace
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
}

# What the simulator links must be free of the network, of async runtimes and of sled.
pure() {
    cargo build --locked -p quloud-netsim || return 1
    local found
    found=$(cargo tree --locked -p quloud-netsim -e normal --prefix none |
        grep -E '^(tokio|libp2p|sled|axum|hyper|mio)[ -]' | sort -u)
    [ -z "$found" ] || { printf 'FAIL: the pure build links\n%s\n' "$found"; return 1; }
}

# Worlds in virtual time: every scenario, a fixed list, a few worlds that nobody has seen yet, fifty
# worlds twice, what small meshes cost their members, and every planted bug, each of which has to be
# found. A change is judged by what it changes, so most worlds are fixed; to search in new ones
# without end there is scripts/soak.sh. The optimised simulator is built for it, with the planted
# bugs last, so that none can be in what is run before.
netsim() {
    local run=(target/release/quloud-netsim)
    cargo build --locked --release -p quloud-netsim || return 1
    "${run[@]}" scenario --all || return 1
    "${run[@]}" scale --nodes 10,100 --check || return 1
    "${run[@]}" scale --nodes 100,1000 --sharding on --check || return 1
    "${run[@]}" run --seeds 50 --days 10 --twice || return 1
    "${run[@]}" run --seeds "${NETSIM_FIXED:-400}" || return 1
    "${run[@]}" run --fresh --seeds "${NETSIM_FRESH:-40}" || return 1
    cargo run --locked --release -p quloud-netsim --features planted-bugs -- mutants
}

deny() {
    if ! cargo deny --version >/dev/null 2>&1; then
        [ -z "${CI:-}" ] || { echo "FAIL: cargo-deny is missing"; return 1; }
        skip "cargo-deny is missing: cargo install cargo-deny --locked"
        return
    fi
    cargo deny --locked check bans licenses sources
}

# Apart from deny: the database has to be fetched.
advisories() {
    cargo deny --version >/dev/null 2>&1 || { skip "cargo-deny is missing"; return; }
    local told code
    told=$(timeout 300 cargo deny --locked check advisories 2>&1)
    code=$?
    printf '%s\n' "$told"
    case "$told" in
        *"failed to fetch advisory database"*) skip "the advisory database cannot be reached" ;;
        *) return $code ;;
    esac
}

# lab SCRIPT: a scenario that says PASS, FAIL or SKIP at the beginning of its last line.
lab() {
    local told code last
    told=$(mktemp)
    bash "$1" 2>&1 | tee "$told"
    code=${PIPESTATUS[0]}
    last=$(tail -n 1 "$told")
    rm -f "$told"
    case "$code $last" in
        "0 SKIP"*) return $SKIPPED ;;
        *) return "$code" ;;
    esac
}

step fmt 10 fmt
step clippy 270 clippy
step tests 480 tests
step docs 90 docs
step pure 120 pure
step netsim 1080 netsim
step deny 30 deny
step advisories 60 advisories
step powercut 180 lab scripts/powercut.sh
step lab 240 lab scripts/lab.sh

printf '\n'
printf '%s\n' "${table[@]}"
printf '%-12s %5d s\n' total $SECONDS
exit $failed
