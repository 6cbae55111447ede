# Short names for what CONTRIBUTING.md tells. `just` is a convenience: every line here works without it.

# what there is
default:
    @just --list

# the two-minute story of README.md
up:
    cargo run --release -- up examples/quickstart

# all tests
test:
    cargo test --workspace --locked

# all that a change has to pass
ci:
    .ci/run

# format, and the lints as errors
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets --locked -- -D warnings

# rewrite the generated CRDs, the chart's too
crds:
    cargo run --package sluice-crds --bin crdgen

# CPU per request beside nginx's (needs nginx; docs/benchmarks.md)
bench *ARGS:
    cargo build --profile dist --bins --package sluice-cli --package sluice-controller --package sluice-dataplane
    cargo run --profile dist --package sluice-e2e --bin bench -- {{ARGS}}

# instructions for a request, against what they may be (needs valgrind; docs/benchmarks.md)
budget *ARGS:
    e2e/budget {{ARGS}}

# what takes size or time to be seen, on loopback (e2e/soak --help)
soak *ARGS:
    e2e/soak {{ARGS}}

# the long proofs: storm, crash or all (docs/invariants.md)
proof *ARGS:
    cargo build --release --workspace
    cargo run --release --package sluice-e2e --bin proof -- {{ARGS}}

# the checks on a real Kubernetes, made here or given (e2e/run --help)
kube *ARGS:
    e2e/run {{ARGS}}

# rewrite what is generated out of the chart and the Lua files (needs helm)
deploy:
    deploy/argocd/render
    deploy/kustomize/render
