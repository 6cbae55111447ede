# shellcheck shell=bash
# Argo CD beside a cluster: application controller, API server, repository server and Redis as parts of it, without
# images. To the cluster the first two are the service accounts of an ordinary installation, with its roles, and the
# cluster is their `in-cluster`. Repositories may be file:// paths.
#
# Health checks and actions of our kinds are in the ConfigMap argocd-cm, which whoever tests them fills.

argocd_parts=(redis argocd-repo-server argocd-server argocd-controller)
# Where its API is, without TLS, for those in the cluster's network.
argocd_address=127.0.0.1:8080

argocd_command_of() {
    local others=(--namespace argocd --redis 127.0.0.1:6379 --repo-server 127.0.0.1:8081 --repo-server-plaintext)
    case "$1" in
    redis) command=(redis-server --port 6379 --save "" --dir "$dir/argocd") ;;
    argocd-repo-server)
        command=(env ARGOCD_BINARY_NAME=argocd-repo-server ARGOCD_GPG_ENABLED=false TMPDIR="$dir/argocd"
            KUBECONFIG="$dir/admin.kubeconfig" argocd --redis 127.0.0.1:6379 --disable-tls --port 8081)
        ;;
    argocd-server)
        argocd_as argocd-server
        command+=(argocd "${others[@]}" --insecure --address "${argocd_address%:*}" --port "${argocd_address#*:}"
            --staticassets "$dir/argocd")
        ;;
    argocd-controller)
        argocd_as argocd-application-controller
        command+=(argocd "${others[@]}" --app-resync 10)
        ;;
    *) return 1 ;;
    esac
}

# A program of Argo CD's, which its binary chooses by this name, as the service account of that name. A process has
# none of a pod's files, so the cluster that it takes itself to be in is the one of its kubeconfig.
argocd_as() {
    command=(env ARGOCD_BINARY_NAME="$1" ARGOCD_FAKE_IN_CLUSTER=true KUBECONFIG="$dir/argocd/$1.kubeconfig")
}

# Needs the registries, which a cluster's network does not reach: whoever works inside of one builds it before.
build_argocd() {
    needed+=("redis-server redis-server" "git git")
    install_packages
    (
        # Two builds at once would write the same file.
        flock 9
        tool argocd argocd "" github.com/argoproj/argo-cd/v3/cmd
    ) 9>"$cache/build.lock"
}

argocd() {
    build_argocd
    mkdir -p "$dir/argocd"
    local manifests
    manifests="$(cd "$here/tools/argocd" && go list -m -f '{{.Dir}}' github.com/argoproj/argo-cd/v3)/manifests"
    k create namespace argocd --dry-run=client -o yaml | k apply -f - >/dev/null
    local file crds=() config=()
    for file in application appproject applicationset; do
        crds+=(-f "$manifests/crds/$file-crd.yaml")
    done
    k apply --server-side "${crds[@]}" >/dev/null
    # Until a CRD has any condition at all, kubectl does not wait but fails.
    await apiserver k wait --for=condition=Established "${crds[@]}"
    for file in base/config/argocd-{cm,rbac-cm,secret}.yaml; do
        config+=(-f "$manifests/$file")
    done
    k -n argocd apply "${config[@]}" >/dev/null
    argocd_account argocd-server "$manifests/base/server/argocd-server" "$manifests/cluster-rbac/server/argocd-server"
    argocd_account argocd-application-controller \
        "$manifests/base/application-controller-roles/argocd-application-controller" \
        "$manifests/cluster-rbac/application-controller/argocd-application-controller"
    k -n argocd apply -f - >/dev/null <<YAML
{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default},
 spec: {sourceRepos: ["*"], destinations: [{namespace: "*", server: "*"}], clusterResourceWhitelist: [{group: "*", kind: "*"}]}}
YAML
    local part
    for part in "${argocd_parts[@]}"; do
        process_of "$part" >/dev/null || start_part "$part"
    done
    await argocd-server nsenter --net="/run/netns/$netns" -- bash -c "exec 3<>/dev/tcp/${argocd_address/:/\/}"
    say "Argo CD runs beside '$name': Applications in the namespace argocd, destination name 'in-cluster'"
    say "  its API in the cluster's network: argocd --server $argocd_address --plaintext"
}

# NAME ROLE CLUSTERROLE: a service account with its roles, by the beginnings of Argo CD's own files, and a kubeconfig of
# it that lasts as long as anybody keeps a cluster.
argocd_account() {
    local account="$1" kubeconfig="$dir/argocd/$1.kubeconfig" token
    k -n argocd apply -f "$2-sa.yaml" -f "$2-role.yaml" -f "$2-rolebinding.yaml" >/dev/null
    k apply -f "$3-clusterrole.yaml" -f "$3-clusterrolebinding.yaml" >/dev/null
    token="$(k -n argocd create token "$account" --duration=8760h)"
    (
        umask 077
        cat >"$kubeconfig" <<YAML
{apiVersion: v1, kind: Config, current-context: this,
 clusters: [{name: node, cluster: {server: "https://$node_ip:6443", certificate-authority: "$dir/pki/ca.crt"}}],
 users: [{name: me, user: {token: "$token"}}],
 contexts: [{name: this, context: {cluster: node, user: me, namespace: argocd}}]}
YAML
    )
}
