# shellcheck shell=bash
# Argo CD beside a cluster: application controller, repository server and Redis as parts of it, without a web server and
# without images. The `argocd` command reaches it with --core. Repositories may be file:// paths.
#
# Health checks and actions of our kinds are in the ConfigMap argocd-cm, which whoever tests them fills.

argocd_parts=(redis argocd-repo-server argocd-controller)

argocd_command_of() {
    case "$1" in
    redis) command=(redis-server --port 6379 --save "" --dir "$dir/argocd") ;;
    argocd-repo-server)
        command=(env ARGOCD_BINARY_NAME=argocd-repo-server ARGOCD_GPG_ENABLED=false TMPDIR="$dir/argocd"
            KUBECONFIG="$dir/admin.kubeconfig" argocd --redis 127.0.0.1:6379 --disable-tls --port 8081)
        ;;
    argocd-controller)
        command=(env ARGOCD_BINARY_NAME=argocd-application-controller KUBECONFIG="$dir/admin.kubeconfig"
            argocd --namespace argocd --repo-server 127.0.0.1:8081 --repo-server-plaintext --redis 127.0.0.1:6379
            --app-resync 10)
        ;;
    *) return 1 ;;
    esac
}

argocd() {
    command -v redis-server >/dev/null || needed+=("redis-server redis-server")
    install_packages
    tool argocd argocd "" github.com/argoproj/argo-cd/v3/cmd
    mkdir -p "$dir/argocd"
    local module
    module="$(cd "$here/tools/argocd" && go list -m -f '{{.Dir}}' github.com/argoproj/argo-cd/v3)"
    k create namespace argocd --dry-run=client -o yaml | k apply -f - >/dev/null
    k apply --server-side -f "$module/manifests/crds/application-crd.yaml" \
        -f "$module/manifests/crds/appproject-crd.yaml" >/dev/null
    # Until a CRD has any condition at all, kubectl does not wait but fails.
    await apiserver k wait --for=condition=Established crd/appprojects.argoproj.io crd/applications.argoproj.io
    argocd_objects | k apply -f - >/dev/null
    local part
    for part in "${argocd_parts[@]}"; do
        process_of "$part" >/dev/null || start_part "$part"
    done
    say "Argo CD runs beside '$name': Applications in the namespace argocd, destination name 'node'"
}

argocd_objects() {
    pem() { base64 -w0 <"$dir/pki/$1"; }
    cat <<YAML
{apiVersion: v1, kind: List, items: [
  {apiVersion: v1, kind: ConfigMap, metadata: {name: argocd-cm, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}}},
  {apiVersion: v1, kind: ConfigMap, metadata: {name: argocd-rbac-cm, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}}},
  {apiVersion: v1, kind: Secret, metadata: {name: argocd-secret, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}},
   stringData: {server.secretkey: test}},
  {apiVersion: v1, kind: Secret, metadata: {name: node, namespace: argocd, labels: {argocd.argoproj.io/secret-type: cluster}},
   stringData: {name: node, server: "https://$node_ip:6443",
     config: '{"tlsClientConfig": {"caData": "$(pem ca.crt)", "certData": "$(pem admin.crt)", "keyData": "$(pem admin.key)"}}'}},
  {apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default, namespace: argocd},
   spec: {sourceRepos: ["*"], destinations: [{namespace: "*", server: "*"}], clusterResourceWhitelist: [{group: "*", kind: "*"}]}}]}
YAML
}
