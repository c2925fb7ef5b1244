#!/usr/bin/env bash
# What a put and a get cost, and what backups, a recovery and a restore do: an owner and three
# holders, real processes on this machine, real disks, three replicas. Prints a table, then one
# JSON object per figure.
#
#   scripts/bench.sh             all of it
#   scripts/bench.sh put         1 GiB of random bytes, put and got
#   scripts/bench.sh backup      4 big files and 20,000 small ones, 1.4 GiB: backed up, edited,
#                                backed up again, audited, and restored on a new machine from the
#                                words
#   scripts/bench.sh micro       the micro-benchmarks, in their quick mode
#   BENCH_MIB=256 BENCH_FILES=5000 BENCH_DIR=/mnt/disk scripts/bench.sh
#   BENCH_CORPUS=DIR scripts/bench.sh backup     another v1; the program `edit` in DIR makes it v2
#
# All processes share the cores and the disk, so trust CPU seconds before wall time, and ratios
# before figures. Where restic is installed, it backs the same corpus up to three folders in the
# same run, step by step, and its seconds and the ratio are told. Never a test: nothing fails
# because a machine is slow.
set -eu
cd "$(dirname "$0")/.."

readonly MIB=${BENCH_MIB:-1024} FILES=${BENCH_FILES:-20000} HOLDERS=3
readonly QULOUD=target/release/quloud CORPUS=target/release/examples/corpus

case ${1:-all} in
    all | put | backup) ;;
    micro) exec cargo bench --locked --bench micro -- --quick ;;
    *)
        sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac

cargo build --release --locked --bin quloud --example corpus

work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/quloud-bench-XXXXXX")
pids=()
trap 'stop' EXIT

stop_nodes() {
    local pid
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    wait
    pids=()
    rm -rf "$work"/node* "$work"/addresses* "$work"/words*
}

stop() {
    stop_nodes
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
seconds=0
peak=0
# figure NAME VALUE UNIT [TARGET MORE|LESS]: the ratio is above 1 where the target is met.
figure() {
    local target=${4:-null} ratio=null
    if [ $# -gt 3 ]; then
        ratio=$(awk -v v="$2" -v t="$4" -v k="$5" \
            'BEGIN {r = (k == "MORE") ? v / t : (v > 0 ? t / v : 99); printf "%.2f", r}')
    fi
    rows+=("$(printf '%-32s %9.2f %-6s %8s %8s' "$1" "$2" "$3" "${4:--}" "${ratio/null/-}")")
    json+=("$(printf '{"name":"%s","value":%s,"unit":"%s","target":%s,"ratio":%s}' \
        "$1" "$2" "$3" "$target" "$ratio")")
}

# spent BEFORE AFTER: CPU seconds, one figure for each process.
spent() {
    awk -v before="$1" -v after="$2" 'BEGIN {
        split(before, b, " "); n = split(after, a, " ")
        for (i = 1; i <= n; i++) printf "%.2f ", a[i] - b[i]
    }'
}

# per_gib BEFORE AFTER: CPU seconds per GiB, one for each process.
per_gib() {
    spent "$1" "$2" | awk -v gib="$(awk "BEGIN {print $MIB / 1024}")" \
        '{for (i = 1; i <= NF; i++) printf "%.2f ", $i / gib}'
}

sum() {
    printf '%s\n' "$@" | awk '{sum += $1} END {printf "%.2f", sum}'
}

largest() {
    printf '%s\n' "$@" | sort -g | tail -n 1
}

# mesh: an owner and its holders, connected.
mesh() {
    node 0
    first=$(head -n 1 "$work/addresses0")
    local number
    for number in $(seq $HOLDERS); do
        node "$number" "$first"
    done
    owner=("$QULOUD" --data-dir "$work/node0" --json)
    until [ "$("${owner[@]}" status | value peers)" -ge $HOLDERS ]; do
        sleep 0.2
    done
}

# memory: the largest resident sets so far.
memory() {
    local peaks=() pid
    for pid in "${pids[@]}"; do
        peaks+=("$(peak "$pid")")
    done
    figure "$1: owner memory" "${peaks[0]}" MiB 250 LESS
    figure "$1: holder memory (largest)" "$(largest "${peaks[@]:1}")" MiB 250 LESS
}

rate() {
    awk -v mib="$MIB" -v s="$1" 'BEGIN {printf "%.1f", mib * 1.048576 / s}'
}

# The disk alone, for comparison: one copy, written and synced once.
disk_alone() {
    local started
    head -c "${MIB}M" /dev/urandom >"$work/random"
    sync
    started=$(date +%s.%N)
    dd if="$work/random" of="$work/copy" bs=1M conv=fdatasync status=none
    figure "the disk alone, one copy" "$(rate "$(since "$started")")" MB/s
    rm "$work/copy"
}

since() {
    awk -v now="$(date +%s.%N)" -v then="$1" 'BEGIN {printf "%.2f", now - then}'
}

put_and_get() {
    local before put get put_cpu get_cpu capability
    before=$(cpu_all)
    put=$("${owner[@]}" put "$work/random" --replicas $HOLDERS --timeout 600)
    read -r -a put_cpu <<<"$(per_gib "$before" "$(cpu_all)")"
    capability=$(printf '%s' "$put" | sed -E 's/.*"capability":"([^"]+)".*/\1/')

    before=$(cpu_all)
    get=$("${owner[@]}" get "$capability" -o "$work/back" --timeout 600)
    read -r -a get_cpu <<<"$(per_gib "$before" "$(cpu_all)")"
    cmp "$work/random" "$work/back"
    rm "$work/random" "$work/back"

    figure "put, three durable replicas" "$(rate "$(printf '%s' "$put" | value seconds)")" \
        MB/s 80 MORE
    figure "get" "$(rate "$(printf '%s' "$get" | value seconds)")" MB/s 220 MORE
    figure "put, owner CPU" "${put_cpu[0]}" s/GiB 8 LESS
    figure "put, holder CPU (largest)" "$(largest "${put_cpu[@]:1}")" s/GiB 3.5 LESS
    figure "get, owner CPU" "${get_cpu[0]}" s/GiB
    figure "get, holder CPU (largest)" "$(largest "${get_cpu[@]:1}")" s/GiB
    memory "put and get"
}

edit() {
    if [ -n "${BENCH_CORPUS:-}" ]; then "$BENCH_CORPUS/edit" "$1"; else "$CORPUS" edit "$1"; fi
}

# back_up NAME SECONDS: one backup of the corpus, as the figures of this name.
back_up() {
    local before done cpu
    before=$(cpu_all)
    done=$("${owner[@]}" backup "$work/corpus" --replicas $HOLDERS --timeout 600)
    read -r -a cpu <<<"$(spent "$before" "$(cpu_all)")"
    seconds=$(printf '%s' "$done" | value seconds)
    figure "$1" "$seconds" s "$2" LESS
    [ "$1" != "first backup" ] || figure "$1, CPU of all" "$(sum "${cpu[@]}")" s 45 LESS
    [ "$1" = "first backup" ] || figure "$1, CPU of all" "$(sum "${cpu[@]}")" s
    new=$(printf '%s' "$done" | value new_bytes | awk '{printf "%.2f", $1 / 1048576}')
}

# audit: every byte of all copies is proven, once.
audit() {
    local before done cpu
    before=$(cpu_all)
    done=$("${owner[@]}" audit)
    read -r -a cpu <<<"$(spent "$before" "$(cpu_all)")"
    figure "audit of all copies" "$(printf '%s' "$done" | value seconds)" s 4 LESS
    figure "audit, bytes proven" "$(printf '%s' "$done" | value bytes_proven \
        | awk '{printf "%.0f", $1 / 1048576}')" MiB
    figure "audit, bytes moved" "$(printf '%s' "$done" | value bytes_moved \
        | awk '{printf "%.1f", $1 / 1024}')" KiB
    figure "audit, owner CPU" "${cpu[0]}" s
    figure "audit, holder CPU (largest)" "$(largest "${cpu[@]:1}")" s
}

# same ONE OTHER: contents, modes and times are equal.
same() {
    diff -r "$1" "$2"
    diff <(cd "$1" && find . -printf '%P %y %m %U %G %T@ %n\n' | sort) \
        <(cd "$2" && find . -printf '%P %y %m %U %G %T@ %n\n' | sort)
}

backup() {
    local new words=$work/words0
    local other=("$QULOUD" --data-dir "$work/other" --json)
    local alone=(--mdns off --listen /ip4/127.0.0.1/tcp/0)
    if [ -n "${BENCH_CORPUS:-}" ]; then
        cp -a "$BENCH_CORPUS/v1" "$work/corpus"
    else
        "$CORPUS" make "$work/corpus" "$MIB" "$FILES"
    fi
    sync
    back_up "first backup" 20
    with_restic "first backup" restic_three
    edit "$work/corpus"
    sync
    # What changed less than two seconds before a backup is read again by the next one.
    sleep 3
    back_up "incremental" 3
    figure "incremental, new bytes a copy" "$new" MiB 9 LESS
    with_restic "incremental" restic_three
    back_up "nothing changed" 1
    with_restic "nothing changed" restic_three
    audit
    local restored
    restored=$("${owner[@]}" restore latest --target "$work/restored" --timeout 600)
    seconds=$(printf '%s' "$restored" | value seconds)
    figure "restore" "$seconds" s 6 LESS
    same "$work/corpus" "$work/restored$work/corpus"
    with_restic "restore" restic -q -r "$work/restic1" restore latest --target "$work/by-restic"
    memory backup

    # Each command starts a node of its own, and is timed with that.
    watched "${other[@]}" recover --yes --words-file "$words" --bootstrap "$first" "${alone[@]}"
    figure "recover: snapshots listed" "$seconds" s 3 LESS
    # Nothing was deleted before: ext4 looks for minutes at each inode that just became free.
    watched "${other[@]}" restore latest --target "$work/again" --timeout 600 "${alone[@]}"
    figure "restore after recover, command" "$seconds" s
    # All that the command spends outside of the restore counts as before its first byte.
    figure "restore after recover, 1st byte" "$(awk -v all="$seconds" \
        -v work="$(value seconds <"$work/told")" \
        -v byte="$(value first_byte_seconds <"$work/told")" \
        'BEGIN {printf "%.2f", all - work + byte}')" s 5 LESS
    figure "restore after recover, memory" "$peak" MiB 250 LESS
    same "$work/corpus" "$work/again$work/corpus"
}

# watched COMMAND...: runs it and waits; leaves what it told in $work/told, how long it took in
# $seconds and its largest resident set in $peak.
watched() {
    local started pid now
    started=$(date +%s.%N)
    peak=0
    "$@" >"$work/told" &
    pid=$!
    while now=$(peak $pid 2>/dev/null) && [ -n "$now" ]; do
        peak=$now
        sleep 0.02
    done
    wait $pid
    seconds=$(since "$started")
}

# with_restic NAME COMMAND...: where restic is installed, how long it takes and how that compares
# with ours, which took $seconds.
with_restic() {
    local name=$1 number started took
    shift
    command -v restic >/dev/null || return 0
    export RESTIC_PASSWORD=quloud RESTIC_FROM_PASSWORD=quloud
    for number in $(seq $HOLDERS); do
        [ -d "$work/restic$number" ] || restic -q -r "$work/restic$number" init
    done
    started=$(date +%s.%N)
    "$@" >/dev/null
    took=$(since "$started")
    figure "$(restic version | cut -d' ' -f1,2): $name" "$took" s
    figure "$name: ours to restic's" \
        "$(awk -v ours="$seconds" -v took="$took" 'BEGIN {printf "%.2f", ours / took}')" ratio
}

# One copy in a folder, then two copies of that.
restic_three() {
    local number
    restic -q -r "$work/restic1" backup "$work/corpus"
    for number in $(seq 2 $HOLDERS); do
        restic -q -r "$work/restic$number" copy --from-repo "$work/restic1"
    done
}

mesh
disk_alone
case ${1:-all} in
    put) put_and_get ;;
    backup) backup ;;
    all)
        put_and_get
        stop_nodes
        mesh
        backup
        ;;
esac

printf '\n%s cores; %s MiB of random bytes, %s small files\n\n' "$(nproc)" "$MIB" "$FILES"
printf '%-32s %9s %-6s %8s %8s\n' figure value unit target ratio
printf '%s\n' "${rows[@]}"
printf '\n'
printf '%s\n' "${json[@]}"
