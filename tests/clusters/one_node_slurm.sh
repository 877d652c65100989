#!/usr/bin/env bash
# A whole Slurm on this machine alone, to try `python -m eval run SUITE.yml --executor slurm` on.
#
#   apt-get install slurm-wlm munge          # Debian, Ubuntu
#   tests/clusters/one_node_slurm.sh start FOLDER
#   export SLURM_CONF=FOLDER/slurm.conf      # the Slurm that sbatch, squeue and the harness talk to
#   python -m eval run smoke --executor slurm
#   tests/clusters/one_node_slurm.sh stop FOLDER
#
# All that it makes is in FOLDER (key, sockets, spool, logs); nothing under /etc is read or changed. It listens on PORT and
# PORT + 1 (environment variable, default 26817). Two partitions: `main`, whose jobs are put back into the queue when a job
# of the other, `urgent`, wants their cores. There is no accounting, so no sacct. FOLDER's path must be below 80 characters
# (a socket is in it). Runs as root (in a container, say) or as any user, whose jobs alone it then runs.
set -euo pipefail

usage() {
    echo "usage: $0 start|stop FOLDER" >&2
    exit 2
}

write_configuration() {
    local host user cpus
    host=$(hostname -s) user=$(id -un) cpus=$(getconf _NPROCESSORS_ONLN)
    cat >"$folder/slurm.conf" <<CONFIGURATION
ClusterName=one_node
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# A job that was put back into the queue waits until the credentials of its last start have expired.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pidfile
SlurmdPidFile=$folder/slurmd.pidfile
# Without control groups and accounting, which containers seldom have.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=1000000
SwitchType=switch/none
ReturnToService=2
KillWait=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=main Nodes=$host Default=YES PriorityTier=1 GraceTime=20 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=$host PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
CONFIGURATION
}

# Start a daemon in a session of its own, and note its process' id.
launch() {
    local name=$1
    shift
    setsid "$@" >"$folder/$name.log" 2>&1 </dev/null &
    echo $! >"$folder/$name.pid"
}

answers() {
    timeout 10 srun --immediate=5 --partition=urgent hostname >/dev/null 2>&1
}

await() {
    local tries
    for tries in $(seq 60); do
        "$@" && return
        sleep 0.5
    done
    return 1
}

start() {
    if alive slurmctld; then
        echo "a Slurm runs in $folder already" >&2
        exit 1
    fi
    mkdir -p "$folder"/{state,spool}
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    write_configuration
    export SLURM_CONF=$folder/slurm.conf
    # --force: it would refuse a folder that others may not enter.
    launch munged munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --seed-file="$folder/munge.seed" --pid-file="$folder/munge.pidfile" --log-file="$folder/munged.log"
    await test -S "$folder/munge.socket" || fail
    launch slurmctld slurmctld -D -i -f "$SLURM_CONF"
    launch slurmd slurmd -D -f "$SLURM_CONF"
    await answers || fail
    echo "a Slurm with $(getconf _NPROCESSORS_ONLN) CPUs runs; now: export SLURM_CONF=$SLURM_CONF"
}

fail() {
    echo "Slurm does not answer; the last lines of its logs:" >&2
    tail -n 5 "$folder"/*.log >&2
    stop
    exit 1
}

# A daemon is only taken for ours while its command names the folder: a process' id may be given out again.
alive() {
    local pid
    pid=$(cat "$folder/$1.pid" 2>/dev/null) && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$folder/"
}

ended() {
    ! alive "$1"
}

no_jobs() {
    test -z "$(timeout 10 squeue --noheader 2>/dev/null)"
}

stop() {
    export SLURM_CONF=$folder/slurm.conf
    if alive slurmctld && alive slurmd; then
        timeout 10 scancel --user="$(id -un)" || true
        await no_jobs || true
    fi
    local name
    for name in slurmd slurmctld munged; do
        if alive "$name"; then
            kill "$(cat "$folder/$name.pid")"
            await ended "$name" || kill -KILL "$(cat "$folder/$name.pid")"
        fi
        rm -f "$folder/$name.pid"
    done
}

test $# -eq 2 || usage
mkdir -p "$2"
folder=$(cd "$2" && pwd -P)
port=${PORT:-26817}
case $1 in
start) start ;;
stop) stop ;;
*) usage ;;
esac
