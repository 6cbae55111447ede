# shellcheck shell=bash
# Images: built by buildah from Dockerfiles, loaded into the node. Nothing can be pulled in there, so what a Dockerfile
# begins from is made here, under the name that it uses.

# The images that our Dockerfiles begin from when they are told nothing else.
base_tag=gcr.io/distroless/cc-debian12:nonroot
toolchain_tag=docker.io/library/rust:1.90-bookworm

# A store of our own, so that nobody's images are touched. Plain copies: overlays do not stack on every file system.
images() { buildah --root "$cache/images" --runroot "$cache/images-run" --storage-driver vfs "$@"; }

# TAG CONTEXT [ARG…]
image() {
    local tag="$1" context="$2"
    shift 2
    install_packages
    base_image
    # chroot isolation needs no namespaces or control groups beyond ours.
    images build --isolation chroot --pull-never --quiet --tag "$tag" "$@" "$context" >/dev/null
    local archive
    archive="$(mktemp "$dir/image.XXXXXX")"
    rm "$archive"
    images push --quiet "$tag" "oci-archive:$archive:$tag"
    load "$archive"
    rm -f "$archive"
}

load() {
    local said
    # Quiet unless it fails: it warns at each call of what this machine cannot change.
    said="$(ctr -a "$dir/containerd.sock" -n k8s.io image import "$1" 2>&1)" || fail "the image cannot be loaded: $said"
}

# What distroless/cc is, made of this machine's files: the C library, libgcc, certificates, and a user that is not root.
base_image() {
    ! images inspect --type image "$base_tag" >/dev/null 2>&1 || return 0
    local root
    root="$(mktemp -d)"
    mkdir -p "$root"/{etc/ssl/certs,tmp,home/nonroot}
    chmod 1777 "$root/tmp"
    gcc -x c -o "$root/probe" - -Wl,--no-as-needed -lm -lgcc_s <<<'int main(void) { return 0; }'
    ldd "$root/probe" | grep -o '/[^ ]*' | xargs -I@ cp -L --parents @ "$root"
    rm "$root/probe"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || true
    echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >"$root/etc/passwd"
    echo 'nonroot:x:65532:' >"$root/etc/group"
    printf 'FROM scratch\nCOPY . /\nUSER 65532:65532\n' |
        images build --isolation chroot --quiet --tag "$base_tag" -f - "$root" >/dev/null
    rm -rf "$root"
}

# What rust:… is, without a copy of this machine's compilers: an almost empty image, and on standard output the arguments
# for `buildah build` that mount them into it.
toolchain_image() {
    local root folder cargo="${CARGO_HOME:-$HOME/.cargo}" rustup="${RUSTUP_HOME:-$HOME/.rustup}"
    if ! images inspect --type image "$toolchain_tag" >/dev/null 2>&1; then
        root="$(mktemp -d)"
        mkdir -p "$root"/{etc,tmp,usr,root,cargo,rustup}
        chmod 1777 "$root/tmp"
        for folder in bin sbin lib lib64; do
            if [[ -L /$folder ]]; then cp -d "/$folder" "$root/"; else mkdir "$root/$folder"; fi
        done
        printf '%s\n' 'FROM scratch' 'COPY . /' \
            'ENV HOME=/root CARGO_HOME=/cargo RUSTUP_HOME=/rustup PATH=/cargo/bin:/usr/local/bin:/usr/bin:/bin' |
            images build --isolation chroot --quiet --tag "$toolchain_tag" -f - "$root" >/dev/null
        rm -rf "$root"
    fi
    for folder in /usr /etc/alternatives /etc/ssl; do
        printf -- '--volume\n%s:%s:ro\n' "$folder" "$folder"
    done
    for folder in /bin /sbin /lib /lib64; do
        [[ -L $folder ]] || printf -- '--volume\n%s:%s:ro\n' "$folder" "$folder"
    done
    # Not read-only: crates that are missing are fetched into it.
    printf -- '--volume\n%s:/cargo\n--volume\n%s:/rustup:ro\n' "$cargo" "$rustup"
}

# The process that holds a pod's namespaces open. Its archive is kept: it is needed at every start.
pause_image() {
    local archive
    archive="$cache/pause-$(sha256sum <"$here/config/pause.c" | cut -c1-16).tar"
    if [[ ! -f "$archive" ]]; then
        local root
        root="$(mktemp -d)"
        gcc -O2 -static -o "$root/pause" "$here/config/pause.c"
        printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' |
            images build --isolation chroot --quiet --tag localhost/pause:1 -f - "$root" >/dev/null
        images push --quiet localhost/pause:1 "oci-archive:$archive.new:localhost/pause:1"
        mv "$archive.new" "$archive"
        rm -rf "$root"
    fi
    load "$archive"
}
