#!/usr/bin/env bash
# What a put and a get cost: an owner and three holders, real processes on this machine, real
# disks, incompressible data, three replicas. Prints a table, then one JSON object per figure.
#
#   scripts/bench.sh             1 GiB
#   scripts/bench.sh --micro     and the micro-benchmarks, in their quick mode
#   BENCH_MIB=256 BENCH_DIR=/mnt/disk scripts/bench.sh
#
# All processes share the cores and the disk, so trust CPU seconds before wall time, and ratios
# before figures. Never a test: nothing fails because a machine is slow.
set -eu
cd "$(dirname "$0")/.."

readonly MIB=${BENCH_MIB:-1024} HOLDERS=3
readonly QULOUD=target/release/quloud

cargo build --release --locked --bin quloud

work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/quloud-bench-XXXXXX")
pids=()
trap 'stop' EXIT

stop() {
    local pid
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    wait
    rm -rf "$work"
}

# node NUMBER [ADDRESS]: starts a node, and waits for its first address.
node() {
    local dir=$work/node$1 options=(--listen /ip4/127.0.0.1/tcp/0 --mdns off --capacity 100GB)
    [ $# -lt 2 ] || options+=(--bootstrap "$2")
    "$QULOUD" --data-dir "$dir" --quiet init --yes --words-file "$work/words$1" >/dev/null
    "$QULOUD" --data-dir "$dir" --quiet up "${options[@]}" >"$work/addresses$1" &
    pids+=($!)
    until [ -s "$work/addresses$1" ]; do
        kill -0 $! || { echo "node $1 ended"; exit 1; }
        sleep 0.1
    done
}

# value NAME: the number of this name in the JSON on stdin.
value() {
    sed -E "s/.*\"$1\":([0-9.eE+-]+).*/\1/"
}

# cpu PID: user and system seconds so far.
cpu() {
    sed 's/.*) //' "/proc/$1/stat" | awk -v tick="$(getconf CLK_TCK)" '{print ($12 + $13) / tick}'
}

# peak PID: the largest resident set so far, in MiB.
peak() {
    awk '/^VmHWM:/ {printf "%.0f", $2 / 1024}' "/proc/$1/status"
}

cpu_all() {
    local pid
    for pid in "${pids[@]}"; do
        cpu "$pid"
    done | tr '\n' ' '
}

rows=()
json=()
# figure NAME VALUE UNIT [TARGET MORE|LESS]: the ratio is above 1 where the target is met.
figure() {
    local target=${4:-null} ratio=null
    if [ $# -gt 3 ]; then
        ratio=$(awk -v v="$2" -v t="$4" -v k="$5" \
            'BEGIN {r = (k == "MORE") ? v / t : (v > 0 ? t / v : 99); printf "%.2f", r}')
    fi
    rows+=("$(printf '%-28s %9.2f %-6s %8s %8s' "$1" "$2" "$3" "${4:--}" "${ratio/null/-}")")
    json+=("$(printf '{"name":"%s","value":%s,"unit":"%s","target":%s,"ratio":%s}' \
        "$1" "$2" "$3" "$target" "$ratio")")
}

# per_gib BEFORE AFTER: CPU seconds per GiB, one for each process.
per_gib() {
    awk -v before="$1" -v after="$2" -v gib="$(awk "BEGIN {print $MIB / 1024}")" 'BEGIN {
        split(before, b, " "); n = split(after, a, " ")
        for (i = 1; i <= n; i++) printf "%.2f ", (a[i] - b[i]) / gib
    }'
}

node 0
first=$(head -n 1 "$work/addresses0")
for number in $(seq $HOLDERS); do
    node "$number" "$first"
done
owner=("$QULOUD" --data-dir "$work/node0" --json)
until [ "$("${owner[@]}" status | value peers)" -ge $HOLDERS ]; do
    sleep 0.2
done

# The disk alone, for comparison: one copy, written and synced once.
head -c "${MIB}M" /dev/urandom >"$work/random"
sync
started=$(date +%s.%N)
dd if="$work/random" of="$work/copy" bs=1M conv=fdatasync status=none
disk=$(awk -v mib="$MIB" -v s="$(date +%s.%N) - $started" \
    'BEGIN {split(s, p, " - "); printf "%.1f", mib * 1.048576 / (p[1] - p[2])}')
rm "$work/copy"

before=$(cpu_all)
put=$("${owner[@]}" put "$work/random" --replicas $HOLDERS --timeout 600)
read -r -a put_cpu <<<"$(per_gib "$before" "$(cpu_all)")"
capability=$(printf '%s' "$put" | sed -E 's/.*"capability":"([^"]+)".*/\1/')

before=$(cpu_all)
get=$("${owner[@]}" get "$capability" -o "$work/back" --timeout 600)
read -r -a get_cpu <<<"$(per_gib "$before" "$(cpu_all)")"
cmp "$work/random" "$work/back"

rate() {
    awk -v mib="$MIB" -v s="$1" 'BEGIN {printf "%.1f", mib * 1.048576 / s}'
}
largest() {
    printf '%s\n' "$@" | sort -g | tail -n 1
}

figure "put, three durable replicas" "$(rate "$(printf '%s' "$put" | value seconds)")" MB/s 80 MORE
figure "get" "$(rate "$(printf '%s' "$get" | value seconds)")" MB/s 220 MORE
figure "put, owner CPU" "${put_cpu[0]}" s/GiB 8 LESS
figure "put, holder CPU (largest)" "$(largest "${put_cpu[@]:1}")" s/GiB 3.5 LESS
figure "get, owner CPU" "${get_cpu[0]}" s/GiB
figure "get, holder CPU (largest)" "$(largest "${get_cpu[@]:1}")" s/GiB
peaks=()
for pid in "${pids[@]}"; do
    peaks+=("$(peak "$pid")")
done
figure "owner memory" "${peaks[0]}" MiB 250 LESS
figure "holder memory (largest)" "$(largest "${peaks[@]:1}")" MiB 250 LESS

printf '\n%s cores; %s MiB of random bytes; the disk alone takes %s MB/s (one copy, synced)\n\n' \
    "$(nproc)" "$MIB" "$disk"
printf '%-28s %9s %-6s %8s %8s\n' figure value unit target ratio
printf '%s\n' "${rows[@]}"
printf '\n'
printf '%s\n' "${json[@]}"

if [ "${1:-}" = --micro ]; then
    cargo bench --locked --bench micro -- --quick
fi
