# Everything a user or a builder types. `make help` lists it.
CARGO ?= cargo
# How long `make fuzz` stays with each target.
FUZZ_SECONDS ?= 60
# What `make demo` plays: guard, or share; both when it is empty.
ACT ?=

.DEFAULT_GOAL := help
.PHONY: help deps build test lint demo perf count instructions fuzz clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

deps: ## install what is missing (Debian, as root)
	@.ci/deps </dev/null

build: deps ## build the release binaries
	$(CARGO) build --release --workspace --bins

test: deps ## run all tests; the end-to-end ones need root
	@test "$$(id -u)" -eq 0 || { echo 'make test: run it as root, the end-to-end tests make network name spaces' >&2; exit 1; }
	$(CARGO) test --workspace --no-fail-fast

lint: deps ## format, lints (warnings are errors), dependencies listed
	@.ci/listed-dependencies
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

demo: deps ## a server under flood, guarded by one and by three (ACT=guard, ACT=share: one act), as root
	@test "$$(id -u)" -eq 0 || { echo 'make demo: run it as root, it makes network name spaces' >&2; exit 1; }
	$(CARGO) build --release -p tidegate -p tidegate-lab
	$(CARGO) run --quiet --release -p tidegate-lab --bin tidegate-demo -- $(if $(ACT),--act $(ACT))

perf: deps ## measure, as root beside peers; writes perf/out/report.json, .csv and .html
	$(CARGO) build --release -p tidegate -p tidegate-perf
	rm -rf perf/out/peers
	@if test "$$(id -u)" -eq 0; then perf/peers.sh '$(CARGO) run --quiet --release -p tidegate-perf --' perf/out/peers; \
	else echo 'make perf: peers are skipped; run it as root, they need network name spaces' >&2; fi
	$(CARGO) run --release -p tidegate-perf -- bench $(foreach part,cost ndr guard-flood,$$(test -e perf/out/peers/$(part)/report.json && echo --include perf/out/peers/$(part)/report.json))

count: deps ## the hot path's instructions by callgrind, against perf/instructions.json
	$(CARGO) run --release -p tidegate-perf -- count

instructions: deps ## accept what `make count` counts: rewrites perf/instructions.json
	$(CARGO) run --release -p tidegate-perf -- count --record

fuzz: deps ## hostile bytes for every parser, FUZZ_SECONDS each
	TIDEGATE_FUZZ_SECONDS=$(FUZZ_SECONDS) TIDEGATE_FUZZ_SEED=$$(shuf -i 2-2000000000 -n 1) $(CARGO) test -p tidegate-dataplane --test fuzz -- --nocapture

clean: ## remove what was built and measured
	$(CARGO) clean
	rm -rf perf/out
