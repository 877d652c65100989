#!/usr/bin/env bash
# A Ray cluster of this machine alone, to try `python -m eval run SUITE.yml --executor ray` on.
#
#   pip install ".[ray]"
#   tests/clusters/one_node_ray.sh start FOLDER
#   source FOLDER/environment                # address and token of the Ray that the harness talks to
#   python -m eval run smoke --executor ray
#   tests/clusters/one_node_ray.sh stop FOLDER
#
# It listens on PORT (environment variable, default 26379) and has CPUS processors (default: this machine's). Its logs and
# sockets lie in FOLDER, whose path must be below 40 characters (a socket deep within it has to stay below 108). `stop` ends
# the processes of this cluster and no other's. Ray's dashboard and its reports to its makers are off. It can be reached from
# other machines, as Ray takes the loopback interface for no cluster; the token keeps out whoever has not read it. Without an
# address, the harness starts a Ray of its own and needs none of this.
set -euo pipefail

usage() {
    echo "usage: $0 start|stop FOLDER" >&2
    exit 2
}

start() {
    mkdir -p "$folder"
    if [ ! -s "$folder/token" ]; then
        (umask 077 && od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$folder/token")
    fi
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token RAY_USAGE_STATS_ENABLED=0
    setsid ray start --head --block --disable-usage-stats \
        --port="$port" --include-dashboard=false --temp-dir="$folder/ray" \
        --num-cpus="${CPUS:-$(getconf _NPROCESSORS_ONLN)}" >"$folder/ray.log" 2>&1 </dev/null &
    echo $! >"$folder/ray.pid"
    local tries
    for tries in $(seq 120); do
        if grep -q "Ray runtime started" "$folder/ray.log"; then
            local address
            address=$(grep -o -m 1 "[^' ]*:$port" "$folder/ray.log")
            printf 'export %s=%q\n' RAY_ADDRESS "$address" RAY_AUTH_MODE token RAY_AUTH_TOKEN_PATH "$folder/token" \
                >"$folder/environment"
            echo "a Ray runs at $address; now: source $folder/environment"
            return
        fi
        sleep 0.5
    done
    echo "Ray does not answer; the last lines of its log:" >&2
    tail -n 20 "$folder/ray.log" >&2
    stop
    exit 1
}

# Our `ray start`, as long as the process is that: its id may be given out again.
head_process() {
    local pid
    pid=$(cat "$folder/ray.pid" 2>/dev/null) && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$folder/" && echo "$pid"
}

# Every process of the session that `start` has made: the daemons, the workers, and the jobs' parents.
session() {
    ps -s "$1" -o pid= || true
}

stop() {
    local pid tries
    if pid=$(head_process); then
        kill "$pid"
        for tries in $(seq 40); do
            test -n "$(session "$pid")" || break
            sleep 0.5
        done
        for process in $(session "$pid"); do
            kill -KILL "$process" 2>/dev/null || true
        done
    fi
    rm -f "$folder"/{ray.pid,environment}
}

test $# -eq 2 || usage
mkdir -p "$2"
folder=$(cd "$2" && pwd -P)
port=${PORT:-26379}
case $1 in
start) start ;;
stop) stop ;;
*) usage ;;
esac
