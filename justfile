# The menu of what one does here every day.

# Everything CI checks.
ci:
    .ci/run

# The tests on real parts: just test -p tests bundle_arrives
test *arguments:
    tests/run {{arguments}}

# The tests that need no cluster of one package: just unit protocol
unit package *arguments:
    cargo test -p {{package}} --lib {{arguments}}

# The released agent's size and memory beside their budget.
budget:
    cargo run --release -p packaging -- budget

# What an idle agent's link carries in a day beside its budget.
traffic:
    cargo run --release -p packaging -- traffic

# One benchmark of docs/benchmarks.md: just bench ingest
bench name:
    tests/bench {{name}}

# The lints, as CI runs them.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# A shell command on a new Kubernetes cluster: just cluster 'kubectl get nodes'
cluster command:
    tools=$(tests/control-plane/build) && PATH=$tools:$PATH control-plane sh -c '{{command}}'

# The format of every file.
format:
    cargo fmt --all

# Licences, bans, sources and advisories of the dependencies.
deny:
    cargo deny check
