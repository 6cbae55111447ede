# shellcheck shell=bash
# What the parts read: certificates, kubeconfigs, and the files of config/ with this cluster's paths in them.

node_ip=10.99.0.2
pods_cidr=10.244.0.0/16
services_cidr=10.96.0.0/16
certificate_days=365

# FILE: a file of config/ with its placeholders filled in.
render() {
    sed -e "s|@DIR@|$dir|g" -e "s|@GROUP@|$group|g" -e "s|@NODE_IP@|$node_ip|g" "$here/config/$1"
}

write_config() {
    certificates
    local user
    for user in admin coredns kubelet kube-proxy scheduler controller-manager; do
        kubeconfig "$user" >"$dir/$user.kubeconfig"
    done
    mkdir -p "$dir/cni" "$dir/logs"
    render audit-policy.yaml >"$dir/audit-policy.yaml"
    render containerd.toml >"$dir/containerd.toml"
    render kubelet.yaml >"$dir/kubelet.yaml"
    render pods.conflist >"$dir/cni/10-pods.conflist"
    render Corefile >"$dir/Corefile"
    echo "nameserver $node_ip" >"$dir/resolv.conf"
}

certificates() (
    mkdir -p "$dir/pki"
    cd "$dir/pki"
    umask 077
    key() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" "${@:2}" 2>/dev/null; }
    key ca -x509 -days "$certificate_days" -out ca.crt -subj /CN=sluice-e2e
    openssl ecparam -name prime256v1 -genkey -noout -out sa.key
    issue admin /O=system:masters/CN=admin
    issue coredns /O=system:masters/CN=coredns
    issue kubelet /O=system:nodes/CN=system:node:node
    issue kube-proxy /CN=system:kube-proxy
    issue scheduler /CN=system:kube-scheduler
    issue controller-manager /CN=system:kube-controller-manager
    issue node /CN=node "subjectAltName=IP:$node_ip,DNS:node"
    # The service network's first address is the API server's, as pods see it.
    issue apiserver /CN=kube-apiserver \
        "subjectAltName=IP:127.0.0.1,IP:$node_ip,IP:${services_cidr%.*}.1,DNS:kubernetes.default.svc"
)

# FILE SUBJECT [EXTENSION]: a certificate by the cluster's authority.
issue() {
    key "$1" -out "$1.csr" -subj "$2"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days "$certificate_days" -out "$1.crt" \
        -extfile <(echo "${3:-basicConstraints=CA:FALSE}") 2>/dev/null
}

# USER: with its certificates inside, so that the file can be taken elsewhere.
kubeconfig() {
    pem() { base64 -w0 <"$dir/pki/$1"; }
    cat <<YAML
apiVersion: v1
kind: Config
current-context: $name
contexts: [{name: $name, context: {cluster: $name, user: $1}}]
clusters: [{name: $name, cluster: {server: "https://$node_ip:6443", certificate-authority-data: $(pem ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(pem "$1.crt"), client-key-data: $(pem "$1.key")}}]
YAML
}
