# shellcheck shell=bash
# The whole cluster: up and down.

k() { nsenter --net="/run/netns/$netns" -- kubectl --kubeconfig "$dir/admin.kubeconfig" "$@"; }

up() {
    install_packages
    require_namespaces
    build_tools
    mkdir -p "$clusters"
    # Making the folder is what decides between two who start the same cluster.
    mkdir "$dir" 2>/dev/null ||
        fail "cluster '$name' is there already, whole or half: see 'cluster status $name', end it with 'cluster down $name'"
    trap half_up EXIT
    local began=$SECONDS
    make_groups
    network
    write_config
    start_part etcd
    start_part apiserver
    start_part containerd
    await apiserver k get --raw /readyz
    start_part controller-manager
    start_part scheduler
    await containerd ctr -a "$dir/containerd.sock" version
    pause_image
    start_part kubelet
    start_part kube-proxy
    start_part coredns
    await kubelet k wait --for=condition=Ready node/node --timeout=1s
    await controller-manager k get serviceaccount default
    trap - EXIT
    say "cluster '$name' is up after $((SECONDS - began)) s"
    how_to_use
}

how_to_use() {
    say "  enter it:       e2e/cluster/cluster enter $name"
    say "  or in scripts:  export KUBECONFIG=$dir/admin.kubeconfig; nsenter --net=/run/netns/$netns kubectl get pods -A"
    say "  logs, audit:    $dir/logs, $dir/audit.log"
    say "  end it:         e2e/cluster/cluster down $name"
}

half_up() {
    printf "cluster: '%s' did not come up; its logs are in %s/logs, 'cluster down %s' removes it\n" \
        "$name" "$dir" "$name" >&2
}

# A namespace that no route leaves: whatever is sent in there stays in there.
network() {
    ip netns add "$netns"
    ip -n "$netns" link set lo up
    # A bridge without ports: dummy devices are missing from some kernels.
    ip -n "$netns" link add eth0 type bridge
    ip -n "$netns" addr add "$node_ip/24" dev eth0
    ip -n "$netns" link set eth0 up
    # The kubelet and kube-proxy look for a default route; this one leads nowhere.
    ip -n "$netns" route add default dev eth0
}

# PART COMMAND…: until it succeeds; says what the part had to say if it does not.
await() {
    local part="$1" deadline=$((SECONDS + 120))
    shift
    # In a shell of its own, or what the trap says of an interruption would be thrown away with the rest.
    until ("$@") >/dev/null 2>&1; do
        if ! process_of "$part" >/dev/null || ((SECONDS >= deadline)); then
            tail -20 "$dir/logs/$part.log" >&2
            fail "$part did not come up; waited for: $*"
        fi
        sleep 0.1
    done
}

down() {
    [[ -d "$dir" || -e "/run/netns/$netns" ]] || { say "there is no cluster '$name'"; return; }
    # All at once: nothing of it is to be kept, and parts that go one by one would mend what the others leave.
    end_processes
    unmount
    ip netns del "$netns" 2>/dev/null || true
    remove_groups
    # What the kubelet and the network plugins keep outside the folders they are given.
    find /var/log/containers -lname "$dir/*" -delete 2>/dev/null || true
    rm -f "/var/lib/cni/results/$netns"-* "/var/lib/cni/cache/results/$netns"-*
    # A mount that stayed is not to be emptied.
    rm -rf --one-file-system "$dir"
    rmdir "$clusters" 2>/dev/null || true
    say "cluster '$name' is gone"
}

# Root file systems, volumes and the pods' network namespaces, the innermost first.
unmount() {
    local target
    while read -r target; do
        umount -l "$target"
    done < <(findmnt -rno TARGET | grep -F "$dir/" | sort -r)
}
