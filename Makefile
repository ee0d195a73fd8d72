# vidfed: two commands matter, `make demo` and `make test`; each sets up all it needs.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all check drawings venv protos requirements bundle signing-tool

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: ## three national nodes on this machine, asked about synthetic pictures (under a minute after the first set-up)
	@.ci/venv runtime
	@.venv/bin/vidfed demo

test: venv ## the tests, one path of everything (under 12 minutes on two processors)
	@echo "vidfed: running the tests, but for those that \`make test-all\` adds"
	@.venv/bin/python -m pytest -n 2 --dist worksteal -m "not exhaustive"

test-all: venv ## every test: also the whole matrices, before a release or when an issue is closed
	@echo "vidfed: running every test"
	@.venv/bin/python -m pytest -n 2 --dist worksteal

check: venv ## lint, types, import rules, generated code
	@echo "vidfed: ruff check";        .venv/bin/ruff check .
	@echo "vidfed: ruff format";       .venv/bin/ruff format --check .
	@echo "vidfed: mypy --strict";     .venv/bin/mypy
	@echo "vidfed: import rules";      .venv/bin/lint-imports --no-cache
	@echo "vidfed: protos";            .venv/bin/buf lint protos && .venv/bin/python protos/generate.py --check
	@echo "vidfed: released protos";   for image in protos/released/*.binpb; do .venv/bin/buf breaking protos --against $$image || exit 1; done

drawings: venv ## draw the arrows in docs/architecture.md anew from the imports
	@.venv/bin/python docs/architecture.py

venv: ## only the virtual environment with everything for development
	@.ci/venv dev

protos: venv ## regenerate the modules below protos/vidfed/v1
	@.venv/bin/python protos/generate.py

bundle: venv ## one signed archive for machines without internet, into dist/: make bundle KEY=release.key
	@[ -n "$(KEY)" ] || { echo "KEY is missing: make bundle KEY=release.key (.venv/bin/vidfed trust keygen release.key makes one; keep it offline)" >&2; exit 2; }
	@.venv/bin/python -m deploy.bundle.build --key "$(KEY)"

signing-tool: venv ## one file with which administrators sign on laptops that are never online, into dist/
	@.venv/bin/python -m deploy.signing_tool.build

requirements: venv ## refresh the pinned, hashed requirement files
	@.ci/pin
