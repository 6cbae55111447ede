# shellcheck shell=bash
# Control groups: every process of a cluster, its pods' too, is in one tree named after it, in each hierarchy. Two
# clusters so keep out of each other's way, and `down` finds what it has to end without trusting a list of ids.

hierarchies() { findmnt -rno TARGET -t cgroup,cgroup2; }

make_groups() {
    local root
    while read -r root; do
        # Version 2 hands controllers down by name, and wants processes in leaves only.
        delegate "$root"
        mkdir -p "$root/$group"
        delegate "$root/$group"
        mkdir -p "$root/$group/parts"
        # Version 1: a new cpuset is empty, and nothing can run in it.
        inherit_cpuset "$root" "$group"
        inherit_cpuset "$root" "$group/parts"
    done < <(hierarchies)
}

delegate() {
    local controller
    [[ -f "$1/cgroup.controllers" ]] || return 0
    for controller in $(cat "$1/cgroup.controllers"); do
        echo "+$controller" >"$1/cgroup.subtree_control" 2>/dev/null || true
    done
}

inherit_cpuset() {
    local file
    for file in cpuset.cpus cpuset.mems; do
        [[ ! -f "$1/$file" || -f "$1/cgroup.controllers" ]] || cat "$1/$2/../$file" >"$1/$2/$file"
    done
}

# Moves the calling (sub)shell, and so what it becomes, into the cluster's tree.
join_group() {
    local root
    while read -r root; do
        echo "$BASHPID" >"$root/$group/parts/cgroup.procs"
    done < <(hierarchies)
}

group_processes() {
    local root
    while read -r root; do
        find "$root/$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true
    done < <(hierarchies) | sort -un
}

# Kills all of the tree, also what is frozen or still being born.
end_processes() {
    local process frozen deadline=$((SECONDS + 20))
    while true; do
        while read -r frozen; do
            echo THAWED >"$frozen" 2>/dev/null || true
        done < <(find /sys/fs/cgroup/freezer/"$group" -name freezer.state 2>/dev/null)
        local left=()
        mapfile -t left < <(group_processes)
        [[ ${#left[@]} -gt 0 ]] || return 0
        ((SECONDS < deadline)) || fail "processes that do not end: ${left[*]}"
        for process in "${left[@]}"; do
            kill -KILL "$process" 2>/dev/null || true
        done
        sleep 0.05
    done
}

remove_groups() {
    local root _
    while read -r root; do
        [[ -d "$root/$group" ]] || continue
        # The kernel lets a group go a moment after its last process.
        for _ in {1..50}; do
            find "$root/$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.1
        done
        [[ ! -d "$root/$group" ]] || fail "the control group $root/$group does not go away"
    done < <(hierarchies)
}
