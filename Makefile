# stunfs: everything that is run by hand or by CI. `make` or `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A rustup that was installed a moment ago is not in PATH yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/release/stunfs
SOURCES := $(shell find src benches scenarios third_party -type f) Cargo.toml Cargo.lock
SCRIPTS := $(wildcard scripts/*.sh demo/*.sh benches/*.sh tests/*.sh tests/vm/*.sh) .ci/run

PREFIX ?= /usr/local
DESTDIR ?=
bindir = $(DESTDIR)$(PREFIX)/bin
# mount(8) looks for helpers in /sbin only, whatever the prefix is.
helperdir = $(DESTDIR)/sbin
mandir = $(DESTDIR)$(PREFIX)/share/man
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

##@ Look

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## "; print "usage: make TARGET" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## A night of a node on thin, thick and warmed storage: a table, and a page that shows it (installs what is missing; 2 minutes)
	@scripts/need.sh build demo
	@$(MAKE) build
	@demo/run.sh

.PHONY: doctor
doctor: build ## Can this machine run it, and how to mend it
	@$(BIN) doctor

##@ Build

.PHONY: build
build: $(BIN) ## The release binary, and the programs that benchmarks use

$(BIN): $(SOURCES)
	@scripts/need.sh build
	cargo build --release --locked --bins --examples
	@touch $(BIN)

.PHONY: clean
clean: ## Remove everything that was built
	cargo clean

##@ Check

.PHONY: test
test: ## All tests (those that mount need /dev/fuse and are skipped, with a word, without it)
	@scripts/need.sh build test
	@scripts/test.sh

.PHONY: test-mount
test-mount: ## Only the tests that mount
	@scripts/need.sh build test
	@scripts/test.sh mount

.PHONY: lint
lint: ## Format, clippy, documentation, shell scripts; licences and advisories if the tools and their data are here
	@scripts/need.sh build lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	shellcheck -x $(SCRIPTS)
	@scripts/audit.sh

.PHONY: conformance
conformance: build ## fsx and stress-ng in every cache mode, with and without injection (about 8 minutes)
	@scripts/need.sh conformance
	@tests/conformance.sh $(or $(SIZE),full)

.PHONY: xfstests
xfstests: build ## xfstests' generic tests on a volume, SUITE=/path/to/a/built/checkout (as root; about an hour)
	@tests/xfstests.sh $(SUITE)

.PHONY: fluentd-test
fluentd-test: build ## A real fluentd on XFS on a thin and on a thick disk, FLUENTD=/path/to/fluentd (as root; about 6 minutes)
	@MAKE_TARGET=fluentd-test tests/fluentd.sh

.PHONY: systemd-test
systemd-test: build ## The units of docs/fstab.md under a systemd of their own (as root; a few seconds)
	@scripts/need.sh systemd
	@MAKE_TARGET=systemd-test tests/systemd.sh

.PHONY: vm-test
vm-test: build ## A guest on a thin disk under QEMU: XFS pile-up, soft lockup, NFS, and a thick control (as root; about 5 minutes)
	@scripts/need.sh vm
	@MAKE_TARGET=vm-test tests/vm/test.sh

.PHONY: vm-incident
vm-incident: build ## The whole incident in one guest, link by link, and the same on thick storage (as root; about 4 minutes; FULL=1: 238 s)
	@scripts/need.sh vm
	@MAKE_TARGET=vm-incident tests/vm/incident.sh

.PHONY: bench
bench: build ## Speed, real programs, a bystander, accuracy, burst, held writes, events, a page, a large backing and disks, as tables (about 25 minutes; as root, on an idle machine)
	@scripts/need.sh bench
	@for bench in compare programs bystander accuracy burst held events report large disk; do benches/$$bench.sh; done
	@CACHE=back benches/compare.sh seq-write-4k
	@KEEP_AWAKE=1 ARMS="ll stunfs" benches/compare.sh seq-write-4k direct-randread-1 direct-randwrite-1 meta
	@CPUS=0 ARMS="ll stunfs" benches/compare.sh seq-write-4k direct-randread-1 direct-randwrite-1 meta

.PHONY: pileup
pileup: build ## The incident's lock pile-up on this kernel, XFS and ext4, thin and thick, RUNS=10 times each (about 16 minutes)
	@benches/pileup.sh

.PHONY: freeze-matrix
freeze-matrix: ## Everything that can be frozen against every ending, TIMES=20 times each, as a table (about 9 minutes)
	@scripts/need.sh build
	@tests/freeze-matrix.sh

.PHONY: endings
endings: ## SIGINT, SIGTERM, SIGKILL of a scenario's run at TIMES=50 seeded moments: nothing may be left (as root for disks; about 8 minutes)
	@scripts/need.sh build
	STUNFS_ENDINGS=$(or $(TIMES),50) cargo test --test scenario whatever_ends

.PHONY: ci
ci: ## What CI runs: lint, all tests, short conformance
	@$(MAKE) lint
	@$(MAKE) build
	@$(MAKE) conformance SIZE=short
	@$(MAKE) test

##@ Install

.PHONY: install
install: build ## Binary, mount helper, man pages, completions; PREFIX=/usr/local DESTDIR=
	install -Dm755 $(BIN) $(bindir)/stunfs
	install -d $(helperdir) $(mandir)/man1 $(bashdir) $(zshdir) $(fishdir)
	ln -sf $(PREFIX)/bin/stunfs $(helperdir)/mount.fuse.stunfs
	$(BIN) man $(mandir)/man1
	$(BIN) completions bash >$(bashdir)/stunfs
	$(BIN) completions zsh >$(zshdir)/_stunfs
	$(BIN) completions fish >$(fishdir)/stunfs.fish

.PHONY: uninstall
uninstall: ## Remove what install put there
	rm -f $(bindir)/stunfs $(helperdir)/mount.fuse.stunfs $(mandir)/man1/stunfs.1 $(mandir)/man1/stunfs-*.1
	rm -f $(bashdir)/stunfs $(zshdir)/_stunfs $(fishdir)/stunfs.fish
