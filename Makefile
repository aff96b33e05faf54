# What people and CI run. `make help` lists it.

SHELL := /bin/bash
export CARGO_BUILD_JOBS ?= 2

.PHONY: help demo cluster test check bench fuzz docs manifests image deny clean

help: ## Shows this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: scripts/rust.sh ## Builds the program and shows it at work in a lab on this machine
	@scripts/rust.sh
	@cargo build --release --quiet --bin metallb
	@"$$(scripts/target.sh)/release/metallb" lab demo

cluster: ## Gives a shell in a whole Kubernetes with MetalLB in it, on this machine, and takes it away again (root)
	@scripts/cluster.sh

test: ## Runs every test, with real routers and a real Kubernetes API; installs what they need
	@scripts/test.sh

check: ## Format, lints and unit tests: the inner loop
	@scripts/rust.sh
	@cargo fmt --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings
	@cargo test --workspace --lib --bins --quiet

bench: ## Measures what we promise, beside what it is compared with
	@scripts/bench.sh

fuzz: ## Fuzzes what bytes from the network go through, for an hour or two; shows the coverage
	@scripts/fuzz.sh

docs: ## Builds the documentation as a site (mdbook, built the first time) and says where
	@scripts/docs.sh

manifests: ## Makes the chart's copy of the definitions and the plain manifests anew
	@scripts/rust.sh
	@cargo run --quiet --bin metallb -- crds > .cache/crds.yaml && mv .cache/crds.yaml charts/metallb/files/crds.yaml
	@scripts/manifests.sh

image: ## Builds the container image for this machine's architecture (needs buildah); see scripts/image.sh
	@scripts/image.sh

deny: ## Checks licences, bans and sources of dependencies (installs cargo-deny)
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	@cargo deny check bans licenses sources

clean: ## Deletes what was built
	@cargo clean
	@rm -rf .cache
