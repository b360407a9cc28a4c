# make demo [EXERCISE=1] [ROUNDS=3] [SYNC=on|quorum|off] [MEMBERS=3]   a cluster on this machine
# make test                                   everything that runs without a cluster
# make verify                                 changes nothing: format, lints, tidiness, dependencies
# make fix                                    what verify would complain of, where a tool can
# make bench                                  figures, each as a ratio to something of the same run
# make manifests                              deploy/manifests, rendered from deploy/chart
# make sim SEEDS=20000 [FIRST_SEED=1]         more seeds of the simulator
# make image PG=15 [SUITE=bookworm] [BASE=IMAGE] [AGENT=PATH] [TAG=NAME] [ARCHIVE=TAR] [INIT=tini]
#                                             the database image, with buildah (images/README.md)
# make e2e [SMOKE=1]                          real pods, on a cluster (scripts/e2e.sh)
# make parity [OFFLINE=1]                     docs/patroni-parity.md against Patroni's package and pgwarden
# make patronictl                             the unmodified patronictl on a cluster of the playground's
# make haproxy                                the unmodified HAProxy before one
# make differential [ONLY="--state running"]  Patroni and pgwarden in the same states, key by key
# make migration [ONLY="--dialect endpoints --order m-2,m-0,m-1"]
#                                             Patroni -> pgwarden -> Patroni, member by member
#
# What is missing is installed when root asks on Debian; anybody else is told what to run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

.PHONY: build demo test verify fix bench sim setup image manifests e2e \
        parity patronictl haproxy differential migration

build:
	cargo build

setup:
	scripts/setup.sh build postgres

# The profile `quick` is the release's code without its link-time optimisation.
demo: setup
	cargo build --locked --profile quick
	target/quick/pgwarden playground \
	  $(if $(EXERCISE),--exercise) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(SYNC),--sync $(SYNC)) $(if $(MEMBERS),--members $(MEMBERS))

test: setup
	scripts/setup.sh helm
	cargo test --locked --no-fail-fast

verify:
	scripts/setup.sh build deny
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --test tidy
	cargo deny --locked check bans licenses sources

fix:
	cargo clippy --fix --allow-dirty --allow-staged --all-targets
	cargo fmt

bench:
	cargo bench --locked --profile quick --bench ratios

manifests:
	scripts/setup.sh helm
	scripts/manifests.sh deploy/manifests

SEEDS ?= 2000
FIRST_SEED ?= 1
sim:
	PGWARDEN_SEEDS=$(SEEDS) PGWARDEN_FIRST_SEED=$(FIRST_SEED) \
	  cargo test --locked --test simulation seeds -- --exact --nocapture

PG ?= 15
image:
	images/build.sh --pg $(PG) $(if $(SUITE),--suite $(SUITE)) $(if $(BASE),--base $(BASE)) \
	  $(if $(AGENT),--agent $(AGENT)) $(if $(TAG),--tag $(TAG)) \
	  $(if $(ARCHIVE),--archive $(ARCHIVE)) $(if $(INIT),--init $(INIT))

# SMOKE=1: what .ci/run does of it. Variables: scripts/e2e.sh.
e2e:
	scripts/e2e.sh $(if $(SMOKE),smoke,whole)

# They need Patroni's package from PyPI; what is missing is said, and is no failure (77).
WIRE = tests/wire/run.sh
parity patronictl haproxy differential migration: setup
	$(WIRE) $@ $(if $(OFFLINE),--offline) $(ONLY) || [ $$? -eq 77 ]
