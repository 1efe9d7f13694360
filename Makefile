# Everything that can be done with this tree. `make test` and `make demo` need nothing but a Debian 12 with a Rust
# toolchain and root: what is missing they install. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

# One target folder outside the checkout, shared with .ci/run: RocksDB's C++ takes a quarter of an hour, once.
CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mainstay/target
export CARGO_TARGET_DIR

.PHONY: help build test test-pure test-collector test-hosts lint eval eval-hosts soak bench fuzz deb rpm demo

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

build: ## the four programs, as they are packaged
	@tests/scripts/install-missing build
	@tests/scripts/build-programs

test: ## every test; host tests need root and are skipped by name without it
	@tests/scripts/install-missing build test deb rpm
	@$(MAKE) test-pure test-collector test-hosts

test-pure: ## tests of all crates but the collector, dev profile
	@tests/scripts/run-tests pure

test-collector: ## tests of the collector, release profile
	@tests/scripts/run-tests collector

test-hosts: ## tests on real hosts with the real packages
	@tests/scripts/run-tests hosts

lint: ## formatting, clippy, licences and banned crates
	@tests/scripts/install-missing build deny
	@tests/scripts/phase "cargo fmt" cargo fmt --all -- --check
	@tests/scripts/phase "clippy" cargo clippy --locked --release --workspace --all-targets -- -D warnings
	@tests/scripts/phase "cargo deny" cargo deny --locked check bans licenses sources

eval: ## detectors and forecasts scored on labelled data in $EVAL_DATA, beside the goals
	@tests/scripts/eval

eval-hosts: ## faults on real hosts: what is found, when, and whom it blames; needs root. MINUTES=N for the slow ones, ONLY=words for some
	@tests/scripts/install-missing build hosts deb
	@$(MAKE) deb
	@cargo build --locked --quiet -p mainstay-tests --bin eval-hosts --bin learn-by-replay
	@"$(CARGO_TARGET_DIR)/debug/eval-hosts" "$(or $(MINUTES),75)" "$(ONLY)"

fuzz: ## what comes from outside, with any bytes: MINUTES=N for each of TARGETS="wire block query"; needs a nightly toolchain
	@tests/scripts/install-missing build fuzz
	@tests/scripts/fuzz "$(or $(MINUTES),10)" $(or $(TARGETS),wire block query)

deb: ## Debian packages, in $CARGO_TARGET_DIR/debian
	@tests/scripts/install-missing build deb
	@tests/scripts/make-packages deb

rpm: ## RPM packages, in $CARGO_TARGET_DIR/generate-rpm
	@tests/scripts/install-missing build rpm
	@tests/scripts/make-packages rpm

demo: ## a collector and three hosts that heal themselves; DEMO_EXIT=1 ends by itself
	@tests/scripts/install-missing build hosts deb
	@$(MAKE) deb
	@cargo build --locked --quiet -p mainstay-tests --bin demo
	@DEMO_EXIT='$(DEMO_EXIT)' "$(CARGO_TARGET_DIR)/debug/demo"

soak: ## 200 power cuts of the collector; needs root
	@tests/scripts/install-missing build test
	@MAINSTAY_POWER_CUTS=200 cargo nextest run --locked --release -p mainstay-collector -E 'test(/^power::/)'

bench: ## every figure of docs/performance.md beside its goal, in two hours; MINUTES=N for other than 60 of churn in them, PARTS="collector bytes" for some of it; needs root
	@tests/scripts/install-missing build hosts deb bench
	@$(MAKE) deb
	@MINUTES='$(MINUTES)' bench/run
