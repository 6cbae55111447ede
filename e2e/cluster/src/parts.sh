# shellcheck shell=bash
# The processes a node is made of: how each is started, stopped and frozen.

parts=(etcd apiserver controller-manager scheduler containerd kubelet kube-proxy coredns)

known_part() {
    [[ " ${parts[*]} ${argocd_parts[*]} " == *" $1 "* ]] ||
        fail "there is no part '$1': ${parts[*]}, and with Argo CD ${argocd_parts[*]}"
}

# PART: puts its command line into `command`.
command_of() {
    local pki="$dir/pki"
    case "$1" in
    etcd)
        # Power cuts are not what is tested here, and fsync is what a busy disk is slowest at.
        command=(etcd --data-dir "$dir/etcd" --unsafe-no-fsync)
        ;;
    apiserver)
        command=(kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address="$node_ip"
            --cert-dir="$pki" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key"
            --client-ca-file="$pki/ca.crt" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction
            --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key"
            # Or exec and logs would look the node's name up.
            --kubelet-preferred-address-types=InternalIP --allow-privileged
            --service-cluster-ip-range="$services_cidr" --service-account-issuer=https://kubernetes.default.svc
            --service-account-key-file="$pki/sa.key" --service-account-signing-key-file="$pki/sa.key"
            --audit-policy-file="$dir/audit-policy.yaml" --audit-log-path="$dir/audit.log" --audit-log-maxsize=4096)
        ;;
    controller-manager)
        # After the API server was away, whoever asks first finds that the node has not been heard of, and takes all of its
        # pods out of all Services for a while. With one node that is an outage of Kubernetes' own making.
        command=(kube-controller-manager --kubeconfig "$dir/controller-manager.kubeconfig" --leader-elect=false
            --use-service-account-credentials --service-account-private-key-file="$pki/sa.key"
            --root-ca-file="$pki/ca.crt" --cluster-signing-cert-file="$pki/ca.crt"
            --cluster-signing-key-file="$pki/ca.key" --node-monitor-grace-period=15m)
        ;;
    scheduler) command=(kube-scheduler --kubeconfig "$dir/scheduler.kubeconfig" --leader-elect=false) ;;
    containerd) command=(containerd --config "$dir/containerd.toml") ;;
    kubelet)
        command=(kubelet --config "$dir/kubelet.yaml" --kubeconfig "$dir/kubelet.kubeconfig"
            --hostname-override node --node-ip "$node_ip" --root-dir "$dir/kubelet")
        ;;
    kube-proxy)
        # Zeros keep it from writing sysctls of the whole machine.
        command=(kube-proxy --kubeconfig "$dir/kube-proxy.kubeconfig" --proxy-mode=nftables --hostname-override node
            --cluster-cidr "$pods_cidr" --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0
            --conntrack-tcp-timeout-close-wait 0)
        ;;
    coredns) command=(coredns -conf "$dir/Corefile") ;;
    *) argocd_command_of "$1" ;;
    esac
}

start_part() {
    local command
    ! process_of "$1" >/dev/null || fail "$1 of '$name' runs already"
    command_of "$1"
    (
        join_group
        # Not `ip netns exec`: it mounts /sys anew, and the kubelet finds no control groups there.
        exec setsid nsenter --net="/run/netns/$netns" -- "${command[@]}"
    ) </dev/null >>"$dir/logs/$1.log" 2>&1 &
    echo $! >"$dir/$1.pid"
    local _
    for _ in {1..100}; do
        ! process_of "$1" >/dev/null || return 0
        sleep 0.02
    done
    fail "$1 of '$name' did not start; see $dir/logs/$1.log"
}

# PART: the id of its process, if it lives. An id that was given away since is in another control group.
process_of() {
    local process
    process="$(cat "$dir/$1.pid" 2>/dev/null)" || return 1
    grep -qs "/$group/parts" "/proc/$process/cgroup" && ! grep -q '^State:.Z' "/proc/$process/status" && echo "$process"
}

# SIGTERM, and after 5 s SIGKILL: the API server lingers over its watches.
stop_part() {
    local process _
    process="$(process_of "$1")" || return 0
    kill -TERM "$process"
    for _ in {1..50}; do
        process_of "$1" >/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$process" 2>/dev/null || true
    # Gone, not only told to go: what is started next must not find it.
    for _ in {1..50}; do
        process_of "$1" >/dev/null || return 0
        sleep 0.1
    done
    fail "$1 of '$name' does not end"
}

freeze_part() { signal_part STOP "$1"; }
thaw_part() { signal_part CONT "$1"; }
signal_part() {
    local process
    process="$(process_of "$2")" || fail "$2 of '$name' does not run"
    kill "-$1" "$process"
}

status() {
    local part process dead=()
    for part in "${parts[@]}"; do
        if process="$(process_of "$part")"; then
            printf '%-20s %s\n' "$part" "$process"
        else
            printf '%-20s %s\n' "$part" "not running; see $dir/logs/$part.log"
            dead+=("$part")
        fi
    done
    [[ ${#dead[@]} == 0 ]] || fail "'$name' is not whole: ${dead[*]}"
    k wait --for=condition=Ready node/node --timeout=1s >/dev/null || fail "the node of '$name' is not ready"
    how_to_use
}
