#!/usr/bin/env bash
# The README's "Three machines by hand", literally: three voters and a worker that joins with a token, each in a network
# namespace of its own, then the leader's link is cut and mended. Needs root, iproute2 and python3. Run by `cargo xtask netns`.
#
#     bench/three_machines.sh target/release/riftmesh
set -u
binary=$(realpath "${1:-target/release/riftmesh}")
if [ -z "${IN_ROOM:-}" ]; then
    # Namespaces of mounts, networks and processes, which end with this script however it ends, and nothing else with them.
    IN_ROOM=1 exec unshare --mount --net --pid --fork --kill-child=SIGKILL --mount-proc -- bash "$0" "$binary"
fi
work=$(mktemp -d)
seeds=10.0.0.1:7700,10.0.0.2:7700,10.0.0.3:7700
trap 'rm -rf "$work"' EXIT
# The names of `ip netns` are not the host's business.
mount -t tmpfs none /run || exit 1

machine() { # name, address
    ip netns add "$1"
    ip link add "v$1" type veth peer name "e$1"
    ip link set "v$1" master riftbridge up
    ip link set "e$1" netns "$1"
    ip -n "$1" addr add "$2/24" dev "e$1"
    ip -n "$1" link set "e$1" up
    ip -n "$1" link set lo up
    mkdir "$work/$1"
}

voter() { # machine, name, address
    cp "$work/cluster.credential" "$work/$1/"
    (cd "$work/$1" && exec ip netns exec "$1" "$binary" node run --dir data --name "$2" \
        --credential cluster.credential --listen "$3:7700" --seeds "$seeds" --bootstrap-expect 3 >node.log 2>&1) &
}

worker() { # machine, token
    (cd "$work/$1" && exec ip netns exec "$1" "$binary" node run --join "$2" --seeds "$seeds" >node.log 2>&1) &
}

on() { ip netns exec "$1" timeout 15 "$binary" "${@:2}"; }

# The leader's name, if it is confirmed, as the worker's machine has it.
leader() {
    on m9 leader --json 2>/dev/null | python3 -c '
import json, sys
answer = json.load(sys.stdin)["answer"]
print(answer["name"] if answer["confirmed"] else "")' 2>/dev/null
}

wait_for() { # what, seconds, command
    local begin=$(date +%s%N)
    until eval "$3"; do
        if (( $(date +%s%N) - begin > $2 * 1000000000 )); then echo "FAILED  $1"; exit 1; fi
        sleep 0.1
    done
    echo "ok      $1 after $(( ($(date +%s%N) - begin) / 1000000 )) ms"
}

ip link add riftbridge type bridge && ip link set riftbridge up || exit 1
"$binary" cluster create --out "$work/cluster.credential" || exit 1
machine m1 10.0.0.1; machine m2 10.0.0.2; machine m3 10.0.0.3; machine m9 10.0.0.9
voter m1 a 10.0.0.1
voter m2 b 10.0.0.2
voter m3 c 10.0.0.3
wait_for "a token is made" 90 'token=$(on m1 token create 2>/dev/null)'
worker m9 "$token"

wait_for "the worker's machine names the leader" 90 '[ -n "$(leader)" ]'
on m9 status; on m9 quorum; on m9 members
wait_for "a job is done" 120 'on m2 job list | grep -q " done "'

old=$(leader)
declare -A place=([a]=m1 [b]=m2 [c]=m3)
ip link set "v${place[$old]}" down
wait_for "a leader other than $old, which is cut off," 60 'new=$(leader); [ -n "$new" ] && [ "$new" != "$old" ]'
on "${place[$old]}" leader
[ $? -eq 2 ] && echo "ok      the one cut off says that it has no quorum" || { echo "FAILED  it claims a quorum"; exit 1; }
ip link set "v${place[$old]}" up
wait_for "the one cut off is back" 90 'on "${place[$old]}" quorum >/dev/null'
