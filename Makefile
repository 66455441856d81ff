# The project's commands. Each does its own set-up: on a fresh Debian 12 machine with Rust, `make demo` and `make test`
# need nothing before them (as root; otherwise they print the one command that installs what is missing).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Cargo and npm use the cores themselves, and the lines of progress stay in order.
.NOTPARALLEL:

STEP := scripts/step
NEXTEST_PROFILE := $(if $(CI),ci,default)
FUZZ_SECONDS ?= 60
CARGO_DENY_VERSION := 0.20.2

# Whatever the console and the codec in it are made from.
WASM_INPUTS := $(shell find codec/src codec/wasm protocol/src -type f \( -name '*.rs' -o -name '*.c' -o -name '*.toml' \) \
	-not -path '*/target/*' 2>/dev/null) codec/Cargo.toml protocol/Cargo.toml Cargo.toml scripts/build-wasm
CONSOLE_INPUTS := $(shell find console protocol/proto -type f -not -path '*/node_modules/*' -not -path 'console/dist/*' \
	-not -path 'console/src/gen/*' -not -path 'console/e2e/*' -not -name '*.wasm' -not -name '*.log' 2>/dev/null)

.PHONY: help demo test check windows fix bench bench-browser deb doc fuzz console wasm clean
.PHONY: setup-bench setup-bench-browser setup-build setup-check setup-console setup-deb setup-demo setup-fuzz setup-test setup-wasm setup-windows

help:
	@echo 'make demo      relay, customer and console on this machine (CHECK=1: checks itself and ends)'
	@echo 'make test      unit, integration, browser and documentation tests'
	@echo 'make check     format, lints, documentation, dependencies, crates that stay pure, scripts, units, alerts'
	@echo 'make windows   the customer program for Windows, and its tests under wine'
	@echo 'make fix       formats, and applies what the linters can fix'
	@echo 'make bench     50 pairs at a relay, and one across impaired links; instructions of the codec (docs/performance.md)'
	@echo 'make bench-browser TRACE=FILE   how long the console takes to decode and draw a recorded screen, in Chromium'
	@echo 'make deb       the relay as a Debian package, in target/deb (docs/operations.md)'
	@echo 'make doc       documentation of the crates, in target/doc'
	@echo 'make fuzz      every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS) (needs a nightly toolchain)'
	@echo 'make console   the web application, in console/dist'
	@echo 'make wasm      the codec for the browser'
	@echo 'make clean     removes what these commands made'

# Everything that a command needs at once, so that who is not root is told one command, once.
setup-bench-browser: SETUP := build wasm console browser
setup-bench: SETUP := build wasm console link count
setup-build: SETUP := build wasm console
setup-check: SETUP := build wasm console check monitoring
setup-console: SETUP := console
setup-deb: SETUP := build wasm console
setup-demo: SETUP := build wasm console display $(if $(CHECK),browser)
setup-fuzz: SETUP := build
setup-test: SETUP := build wasm console display browser link package
setup-wasm: SETUP := wasm
setup-windows: SETUP := build wasm console display cross wine

setup-bench setup-bench-browser setup-build setup-check setup-console setup-deb setup-demo setup-fuzz setup-test setup-wasm setup-windows:
	@$(STEP) 'set-up: $(strip $(SETUP))' scripts/setup $(SETUP)

# --- What people run ---------------------------------------------------------------------------------------------------

demo: setup-demo console
	@$(STEP) 'demo: build in release mode' cargo build --locked --release -p tandem-relay -p tandem-applet
	@CHECK=$(CHECK) exec scripts/demo

# One build serves the tests of the crates and the browser's, which drive the programs in target/debug.
test: setup-test console
	@$(STEP) 'test: build' cargo build --locked --workspace --bins --tests
	@if cargo nextest --version >/dev/null 2>&1; then \
		$(STEP) 'test: crates' cargo nextest run --locked --workspace --profile $(NEXTEST_PROFILE); \
	else \
		echo 'cargo-nextest is not installed: using cargo test, one test at a time' >&2; \
		$(STEP) 'test: crates' cargo test --locked --workspace --lib --bins --tests -- --test-threads=1; \
	fi
	@$(STEP) 'test: examples in the documentation' cargo test --locked --workspace --doc
	@$(STEP) 'test: console' npm --prefix console test
	@$(STEP) 'test: browser' npm --prefix console run e2e
	@$(STEP) 'test: package' scripts/check-deb
	@$(STEP) 'test: service' scripts/check-service

check: setup-check console
	@$(STEP) 'check: format' cargo fmt --all --check
	@$(STEP) 'check: format of what is built apart' \
		sh -ec 'for peer in iroh moq; do cargo fmt --check --manifest-path loadtest/peers/$$peer/Cargo.toml; done'
	@$(STEP) 'check: lines between crates' scripts/check-arrows
	@$(STEP) 'check: lints' cargo clippy --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' $(STEP) 'check: documentation' cargo doc --locked --workspace --no-deps
	@$(STEP) 'check: console' npm --prefix console run check
	@$(STEP) 'check: scripts' scripts/check-scripts
	@$(STEP) 'check: service files' scripts/check-units
	@$(STEP) 'check: alerts and dashboard' scripts/check-monitoring
	@$(STEP) 'check: get cargo-deny' scripts/get-cargo-deny $(CARGO_DENY_VERSION)
	@$(STEP) 'check: dependencies' cargo deny --log-level error check bans licenses sources

# The tests drive the relay in target/debug, and are built as `make test` builds them.
windows: export TANDEM_WINDOWS_PROGRAM = $(CURDIR)/target/windows/tandem-applet.exe
windows: export TANDEM_WINE_PREFIX = $(CURDIR)/target/windows/wine
windows: setup-windows console
	@$(STEP) 'windows: build' scripts/build-windows
	@$(STEP) 'windows: lints' scripts/build-windows lint
	@$(STEP) 'windows: a Windows of wine' scripts/wine-prefix $(TANDEM_WINE_PREFIX)
	@$(STEP) 'windows: build the tests' cargo build --locked --workspace --bins --tests
	@if cargo nextest --version >/dev/null 2>&1; then \
		$(STEP) 'windows: the main job under wine' cargo nextest run --locked --workspace --profile $(NEXTEST_PROFILE) \
			--test wine --run-ignored only; \
	else \
		$(STEP) 'windows: the main job under wine' cargo test --locked --workspace --test wine -- --ignored --test-threads=1; \
	fi

fix: console/node_modules/.package-lock.json
	@$(STEP) 'fix: lints' cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	@$(STEP) 'fix: format' cargo fmt --all
	@$(STEP) 'fix: console' npm --prefix console run fix

bench: setup-bench console
	@$(STEP) 'bench: build in release mode' cargo build --locked --release -p tandem-relay -p tandem-loadtest
	@for transport in quic websocket; do \
		$(STEP) "bench: 50 pairs over $$transport" target/release/tandem-loadtest run --pairs 50 --seconds 10 --tries 3 \
			--transport $$transport; \
	done
	@$(STEP) 'bench: one pair across six impaired links' target/release/tandem-loadtest impair --quick
	@$(STEP) 'bench: instructions of the codec' scripts/bench-instructions

# A recording (loadtest/src/run/trace/player.rs knows the format), played by the console's worker alone.
bench-browser: setup-bench-browser console
	@test -n '$(TRACE)' || { echo 'which recording? make bench-browser TRACE=FILE' >&2; exit 2; }
	@$(STEP) 'bench-browser: build in release mode' cargo build --locked --release -p tandem-loadtest
	@mkdir -p target/made
	@$(STEP) 'bench-browser: encode' target/release/tandem-loadtest codec --mode mixed --records target/made/records '$(TRACE)'
	@$(STEP) 'bench-browser: play' node console/e2e/bench/bench.mjs target/made/records

deb: setup-deb console
	@$(STEP) 'deb: build in release mode' cargo build --locked --release -p tandem-relay
	@$(STEP) 'deb: package' scripts/make-deb target/deb

doc: setup-build console
	@$(STEP) 'doc' cargo doc --locked --workspace --no-deps

fuzz: setup-fuzz
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz

# --- What is built on the way --------------------------------------------------------------------------------------------

wasm: target/made/wasm

console: console/dist/index.html

target/made/wasm: $(WASM_INPUTS) | setup-wasm
	@$(STEP) 'wasm: build the codec' scripts/build-wasm
	@mkdir -p $(@D) && touch $@

# Not `npm ci`: it refuses a lock file without the builds of its tools for every other platform, which not every mirror of
# the registry has. This installs exactly what the lock file says and leaves it as it is.
console/node_modules/.package-lock.json: console/package.json console/package-lock.json | setup-console
	@$(STEP) 'console: packages' npm --prefix console install --no-save --no-audit --no-fund
	@touch $@

# Only when something changed: the relay embeds the result, and a newer file would build it again.
console/dist/index.html: console/node_modules/.package-lock.json target/made/wasm $(CONSOLE_INPUTS)
	@$(STEP) 'console: build' npm --prefix console run build
	@touch $@

clean:
	rm -rf target scripts/dashboard/node_modules fuzz/target console/dist console/node_modules console/src/gen
