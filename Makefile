# Everyday commands. `make demo` and `make test` need nothing but git, make and Rust: what else is missing they
# install on Debian and Ubuntu, or name on other systems.

# One profile and one target directory for everything: dependencies are built once. A target directory outside
# the checkout is used when there is one (MILLRACE_TARGET_DIR, by default ~/.cache/millrace/target).
OUTSIDE := $(or $(MILLRACE_TARGET_DIR),$(HOME)/.cache/millrace/target)
ifneq ($(wildcard $(OUTSIDE)/.),)
export CARGO_TARGET_DIR ?= $(OUTSIDE)
endif
TARGET := $(or $(CARGO_TARGET_DIR),target)
MILLRACE := $(TARGET)/release/millrace

.PHONY: demo build serve test slt slt-update random kills bench bench-latency bench-operators bench-count quick fmt system-packages

## Builds Millrace and shows its main job on generated orders and payments.
demo: build
	$(MILLRACE) demo $(ARGS)

build: system-packages
	cargo build --release --workspace --bins

## Starts the server on ./millrace-data.
serve: build
	$(MILLRACE) serve $(ARGS)

## All tests.
test: system-packages
	cargo test --release --workspace $(ARGS)

## Only the SQL tests; `make slt ARGS=joins` those whose name contains it.
slt: system-packages
	cargo test --release -p millrace-sql-tests --test slt -- $(ARGS)

## Writes the answers that the SQL tests get into their files. Read the difference before you keep it.
slt-update: system-packages
	UPDATE_SLT=1 cargo test --release -p millrace-sql-tests --test slt -- $(ARGS)

## The random oracle, longer: `make random CASES=10000`.
CASES ?= 2000
random: system-packages
	MILLRACE_RANDOM_CASES=$(CASES) cargo test --release -p millrace-sql-tests --test random -- --nocapture

## The server under load, killed (SIGKILL) and started again, checked each time.
KILLS ?= 500
kills: system-packages
	MILLRACE_KILLS=$(KILLS) cargo test --release -p millrace-server --test kills -- --nocapture

## Nexmark beside DataFusion's and DuckDB's batch runs, written to docs/performance.md with all else that it says: some
## twenty minutes on two cores. With ARGS only what they say is measured and printed: `make bench ARGS="--queries q3"`.
bench: build
	$(TARGET)/release/nexmark $(or $(ARGS),--report docs/performance.md)

## Latency of a row to a view; INSERTs and COPY rows per second.
bench-latency: build
	$(TARGET)/release/latency $(ARGS)

## What each operator costs per row. `make bench-operators ARGS="--only join"`.
bench-operators: build
	$(TARGET)/release/operators $(ARGS)

## Instructions per event, against benches/instructions.txt; `make bench-count UPDATE=1` writes it. It takes valgrind.
bench-count: build
	python3 benches/count_instructions.py $(TARGET)/release/nexmark $(if $(UPDATE),--update) $(ARGS)

## Tests with our own crates unoptimised: built in a fraction of the time after an edit, several times slower to run. The
## dependencies are shared with all else; ours lie beside. `make quick ARGS="-p millrace-sql-tests --test slt -- joins"`.
OURS := millrace-engine millrace-server millrace-sql-tests millrace-benches
QUICK := $(foreach crate,$(OURS),--config profile.release.package.$(crate).opt-level=0 \
	--config profile.release.package.$(crate).codegen-units=32)
quick: system-packages
	RUST_MIN_STACK=16777216 cargo test --release $(QUICK) $(or $(ARGS),--workspace)

fmt:
	cargo fmt --all

system-packages:
	@sh .ci/system-packages
