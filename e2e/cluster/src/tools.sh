# shellcheck shell=bash
# The tools, compiled from the Go modules pinned under tools/: no binaries are downloaded, and go.sum says what is built.

build_tools() {
    command -v go >/dev/null || fail "Go is not installed; tools/kubernetes/go.mod says which version is needed"
    mkdir -p "$bin"
    (
        # Two builds at once would write the same files.
        flock 9
        local version component=k8s.io/component-base/version
        version="$(cd "$here/tools/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)"
        # Without a version kubectl and Helm refuse to talk to the server.
        local minor="${version#v*.}"
        tool kubernetes "" \
            "-X $component.gitVersion=$version -X $component.gitMajor=1 -X $component.gitMinor=${minor%%.*}" \
            k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
        tool etcd etcd "" go.etcd.io/etcd/server/v3
        tool containerd "" "" github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}
        tool coredns "" "" github.com/coredns/coredns
        tool helm "" "" helm.sh/helm/v4/cmd/helm
        tool kubeconform "" "" github.com/yannh/kubeconform/cmd/kubeconform
        tool lua argocd-lua "" .
        tool h2spec "" "" github.com/summerwind/h2spec/cmd/h2spec
    ) 9>"$cache/build.lock"
}

# MODULE OUTPUT LDFLAGS PACKAGE…: builds unless exactly this was built already.
tool() {
    local module="$1" output="$2" flags="$3" stamp wanted began=$SECONDS
    shift 3
    stamp="$bin/.$module"
    wanted="$(go version; sha256sum <"$here/tools/$module/go.mod"; sha256sum <"$here/tools/$module/go.sum"
        find "$here/tools/$module" -name '*.go' -print0 | sort -z | xargs -0 -r sha256sum | cut -d ' ' -f 1
        echo "$flags $*")"
    [[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]] || return 0
    rm -f "$stamp"
    say "building $module (minutes when Go's build cache is cold)"
    (
        cd "$here/tools/$module"
        CGO_ENABLED=0 GOFLAGS=-mod=readonly \
            go build -trimpath -tags "no_btrfs no_zfs" -ldflags "-s -w $flags" -o "$bin/$output" "$@"
    ) </dev/null || fail "$module did not build"
    printf '%s\n' "$wanted" >"$stamp"
    say "built $module in $((SECONDS - began)) s"
}
