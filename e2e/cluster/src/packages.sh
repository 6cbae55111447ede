# shellcheck shell=bash
# What the machine has to have, and the Debian packages that bring it.

# Command or file, and its package.
needed=(
    "runc runc"
    "conntrack conntrack"
    "nft nftables"
    "iptables iptables"
    "ip iproute2"
    "buildah buildah"
    "openssl openssl"
    "gcc gcc"
    "nsenter util-linux"
    "/usr/lib/cni/bridge containernetworking-plugins"
    "/usr/include/stdlib.h libc6-dev"
)

# Installs what is missing, or says what to install.
install_packages() {
    local entry what package missing=()
    for entry in "${needed[@]}"; do
        read -r what package <<<"$entry"
        if [[ "$what" == /* ]]; then [[ -e "$what" ]]; else command -v "$what" >/dev/null; fi || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    command -v apt-get >/dev/null || fail "not installed: ${missing[*]} (these are Debian's names for them)"
    say "installing ${missing[*]}"
    local log
    log="$(mktemp)"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
        </dev/null >"$log" 2>&1 || { tail -20 "$log" >&2; fail "apt-get could not install ${missing[*]}"; }
    rm -f "$log"
}

# A container or a hardened kernel may forbid what a node is made of: better said here than by the tenth tool.
require_namespaces() {
    local said
    said="$(unshare --net --mount true 2>&1)" ||
        fail "this machine lets no network and mount namespaces be made ($said): run it as root of a machine or a" \
            "privileged container, or use a cluster that exists: e2e/run --kubeconfig FILE"
}
