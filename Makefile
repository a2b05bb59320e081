# voipd: the commands of this project. `make run` shows it at work, `make test` runs everything CI runs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo
PREFIX ?= /usr
BUILT ?= target/release
CARGO_BIN := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# A shell from before rustup does not have it yet.
export PATH := $(PATH):$(CARGO_BIN)
DENY := $(shell command -v cargo-deny 2>/dev/null || echo $(CARGO_BIN)/cargo-deny)
FUZZ := $(shell command -v cargo-fuzz 2>/dev/null || echo $(CARGO_BIN)/cargo-fuzz)
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 300
PESQ := target/quality/python
SEEDS ?= 2

.PHONY: help deps test-deps build run test check bench quality opus-test soak netlab fuzz install systemd-test clean
help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## Debian packages that building and running need (installs them as root or with sudo)
	@packaging/install-deps build

test-deps: ## Debian packages that the tests need besides: real peers and a sound server
	@packaging/install-deps build test

build: deps ## the daemon and the command line, optimised
	$(CARGO) build --release --locked -p voipd -p voipctl -p voipd-judge

run: build ## a first call: voipd calls its own echo service, plays speech, records what comes back
	@packaging/first-call target/release

check: deps ## format, lints, documentation, licences, direction of dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet
	packaging/check-dependencies
	@[ -x "$(DENY)" ] || $(CARGO) install cargo-deny --locked --quiet --debug
	$(CARGO) fetch --locked
	"$(DENY)" --offline check --hide-inclusion-graph licenses bans sources
	@packaging/check-advisories "$(DENY)"

test: test-deps check ## everything CI runs
	$(CARGO) test --workspace --locked --no-run
	@sync # a disk that still writes what was built holds up sound
	$(CARGO) test --workspace --locked --no-fail-fast

bench: test-deps build ## codecs, ticks, CPU, memory, call set-up and delay, beside baresip where it is installed
	$(CARGO) build --release --locked -p voipd-audio --examples
	@for example in cost tick; do $$(chrt -f 10 true 2>/dev/null && echo chrt -f 10) target/release/examples/$$example; done
	$(CARGO) test --release --locked -p voipd-tests --test whole bench:: -- --ignored --nocapture --test-threads=1

soak: test-deps ## sessions and registrations over minutes, memory over thousands of calls (as root), SOAK_SECONDS (300) long
	$(CARGO) test --workspace --locked --no-run
	SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --workspace --locked --test whole soak:: -- --ignored --nocapture --test-threads=1

quality: deps ## how speech sounds behind a bad network, by PESQ, SEEDS (2) of weather; writes docs/quality.md
	@packaging/install-deps quality
	$(CARGO) build --release --locked -p voipd-quality
	@[ -x $(PESQ)/bin/python ] || python3 -m venv $(PESQ)
	@$(PESQ)/bin/python -c 'import pesq, scipy, soundfile' 2>/dev/null || \
		$(PESQ)/bin/pip install --quiet numpy scipy soundfile pesq
	target/release/quality target/quality/sound $(PESQ)/bin/python $(SEEDS) docs/quality.md

opus-test: deps ## the tests of sound with a newer libopus (deep concealment, DRED), which is built from source
	@packaging/opus-test

netlab: test-deps ## calls between every two kinds of NAT, in network namespaces (as root); writes docs/nat.md
	$(CARGO) test --workspace --locked --no-run
	$(CARGO) test --workspace --locked --test whole -- --include-ignored --nocapture --test-threads=1 \
		netlab:: netlab_troubles:: netlab_baresip::

fuzz: deps ## a fuzzer for each parser, FUZZ_SECONDS (60) each; what it finds stands in tests/fuzz/artifacts
	@[ -x "$(FUZZ)" ] || $(CARGO) install cargo-fuzz --locked --quiet
	packaging/fuzz $(FUZZ_SECONDS)

install: ## what `make build` built, with its services, into $(DESTDIR)$(PREFIX)
	@packaging/install "$(BUILT)" "$(DESTDIR)" "$(PREFIX)"

systemd-test: deps ## the services in a real systemd: installed, started, called, stopped, crashed (as root)
	@[ "$$(id -u)" -ne 0 ] || packaging/install-deps systemd
	$(CARGO) build --workspace --bins --locked
	packaging/systemd-test target/debug

clean: ## remove what was built
	$(CARGO) clean
