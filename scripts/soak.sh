#!/usr/bin/env bash
# Runs worlds that nobody has seen yet, set after set, until it is stopped (Ctrl-C) or a promise
# is broken. Prints a line per set and the sum at the end.
#
#   scripts/soak.sh                   until it is stopped
#   SOAK_SETS=3 scripts/soak.sh       three sets
#   SOAK_GO_ON=1 scripts/soak.sh      goes on after a broken promise, too
#   SOAK_LOG=FILE scripts/soak.sh     where broken promises go (default: soak.log)
#
# Sets differ: small meshes for a month, larger ones for a quarter, a few nodes for a year. Exits
# with 1 where a promise was broken; each is in the log with the line that shows it again.
set -eu -o pipefail
cd "$(dirname "$0")/.."

readonly LOG=${SOAK_LOG:-soak.log} SETS=${SOAK_SETS:-0}
readonly NETSIM=target/release/quloud-netsim
# nodes, days, worlds of a set: some minutes each on two cores.
readonly FRAMES=("5..30 30 200" "10..100 90 20" "5..12 365 30")

cargo build --release --locked -p quloud-netsim

sets=0 worlds=0 years=0 faults=0 broken=0 stopped=
trap 'stopped=1' INT TERM

# figure NAME LINE: a number of the JSON line.
figure() {
    sed -n 's/.*"'"$1"'":\([0-9.eE+-]*\)[,}].*/\1/p' <<<"$2"
}

sum() {
    awk 'BEGIN { s = 0; for (i = 1; i < ARGC; i++) s += ARGV[i]; printf "%.10g", s }' "$@"
}

while [ -z "$stopped" ] && { [ "$SETS" -eq 0 ] || [ $sets -lt "$SETS" ]; }; do
    read -r nodes days count <<<"${FRAMES[sets % ${#FRAMES[@]}]}"
    code=0
    line=$("$NETSIM" run --fresh --seeds "$count" --nodes "$nodes" --days "$days" --json |
        tail -n 1) || code=$?
    if [ -z "$line" ]; then
        [ -n "$stopped" ] || broken=$((broken + 1))
        [ -n "$stopped" ] || echo "BROKEN: the simulator ended with $code and told nothing"
        break
    fi
    sets=$((sets + 1)) worlds=$((worlds + count))
    years=$(sum "$years" "$(figure node_years "$line")")
    faults=$(sum "$faults" "$(figure faults "$line")")
    printf '%s  set %d: %s worlds of %s nodes and %s days from seed %s, %s node-years in all\n' \
        "$(date -u +%H:%M:%S)" $sets "$count" "$nodes" "$days" \
        "$(figure first_seed "$line")" "$years"
    if [ $code -ne 0 ]; then
        broken=$((broken + 1))
        printf '%s\n' "$line" >>"$LOG"
        echo "BROKEN: see $LOG"
        [ -n "${SOAK_GO_ON:-}" ] || break
    fi
done

printf '%s sets, %s worlds, %s node-years, %s faults, %s sets with a broken promise\n' \
    $sets $worlds "$years" "$faults" $broken
[ $broken -eq 0 ]
