# The project's commands. `make` or `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Recipe that `make run` runs, and what is set in it: make run RECIPE=smollm2 SET="train.steps=2"
RECIPE ?= smoke
SET ?=
# Bytecode is made here, once: where PYTHONDONTWRITEBYTECODE is set, each process of a run would compile all that it
# imports (vLLM: 50 s instead of 15).
UV := UV_COMPILE_BYTECODE=1 $(BIN)/uv
# Pinned tools, built by Go into .tools
TOOLS := .tools
LOCK := $(UV) pip compile --quiet --no-annotate --no-header --override requirements/package.overrides
# The version of a release: the package's, unless another is asked for
VERSION ?= $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' pairwise_rm/__init__.py)
TORCH := $(shell sed -n 's/^torch==//p' requirements/cpu.overrides)

.PHONY: help
help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[36m%-13s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.installed ## Make .venv with everything (verl, vLLM, torch; 6 GB)

# PyTorch's CPU build where its index is in reach, the build on PyPI elsewhere; the lock holds all the rest.
$(VENV)/.installed: pyproject.toml requirements/cpu.txt requirements/dev.txt requirements/cpu.overrides
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python 3.10 to 3.12 is needed (verl), this is {v[0]}.{v[1]}; set PYTHON=")'
	@echo "installing into $(VENV) (about 6 GB, a minute on a fast network)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@UV_HTTP_TIMEOUT=20 UV_HTTP_RETRIES=0 $(UV) pip install --quiet --python $(BIN)/python --torch-backend cpu torch==$(TORCH) 2>/dev/null \
	  || $(UV) pip install --quiet --python $(BIN)/python torch==$(TORCH)
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements/cpu.txt -r requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: run
run: install ## Train the smoke judge end to end on this machine, and show by how much it got better
	@$(BIN)/pairwise-rm run $(RECIPE) $(SET)

.PHONY: test
test: lint unit chart-test train-test ## Lint, unit and chart tests, and one short real training

.PHONY: unit
unit: install ## Unit tests alone
	@$(BIN)/python -m pytest tests/unit tests/release tests/docs tests/fuzz -q -n auto

# Seconds of fuzzing, for all targets together
BUDGET ?= 600

.PHONY: fuzz
fuzz: install ## Bytes of any kind into the readers, the parsers and the endpoint (BUDGET=600 seconds in all)
	@BUDGET=$(BUDGET) $(BIN)/python -m pytest tests/fuzz -q -s

.PHONY: chart-test
chart-test: install tools ## Chart, manifests, GitOps, skaffold and workflows, rendered and held to their schemas
	@$(BIN)/python -m pytest tests/chart -q -n auto

.PHONY: train-test
train-test: install ## One short real training: learning signal, resume, export
	@$(BIN)/python -m pytest tests/train -q

# Faults of the table, by name; all without it
FAULT ?=

.PHONY: chaos
chaos: install ## Damage done for real on this machine, and a table of what survived (an hour; FAULT='"worker killed"', TRIES=20)
	@$(BIN)/python -m tests.chaos $(FAULT)

.PHONY: lint
lint: install tools ## All hooks of pre-commit on all files: ruff, mypy, shellcheck, actionlint, generated files
	@$(BIN)/pre-commit run --all-files --show-diff-on-failure

.PHONY: format
format: install ## Let ruff fix and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: benchmark
benchmark: install ## Speed and memory of converting, against pyarrow alone
	@$(BIN)/python benchmarks/convert.py

.PHONY: spread
spread: install ## The smoke judge with three seeds of model, data and training (half an hour)
	@$(BIN)/python benchmarks/smoke.py

.PHONY: lock
lock: install ## Resolve requirements/*.txt again
	@$(LOCK) --universal --python-version 3.10 requirements/cpu.in --override requirements/cpu.overrides \
	  $$(sed 's/^/--no-emit-package /' requirements/torch-family.txt) -o requirements/cpu.txt
	@$(LOCK) --universal --python-version 3.10 requirements/dev.in --constraints requirements/cpu.txt -o requirements/dev.txt
	@$(LOCK) --python-platform x86_64-manylinux_2_28 --python-version 3.12 requirements/gpu.in --override requirements/gpu.overrides \
	  -o requirements/gpu.txt

# Folders of tests that `make e2e` runs, one after the other on one cluster
SUITES ?= e2e

.PHONY: e2e
e2e: install $(TOOLS)/helm ## The tiny judge on a real cluster: KUBECONFIG's, or one that is started here (KUBERAY=1.7)
	@PYTHON=$(BIN)/python tests/e2e/run $(SUITES)

.PHONY: e2e-gitops
e2e-gitops: SUITES := e2e_gitops
e2e-gitops: e2e ## Argo CD, Flux, Kueue and enforced policies on a real cluster (SHORT=1: minutes)

.PHONY: e2e-chaos
e2e-chaos: SUITES := e2e_chaos
e2e-chaos: e2e ## Pods, nodes, the operator, the API server and DNS taken away while training runs (an hour and a half)

IMAGE_BUILD = VERSION=$(VERSION) REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) images/build

# BASE_IMAGE= and FLASH_ATTN= build on another base, BLACKWELL=1 for B200 and GB300, BUILDER= with docker, podman or buildah: see images/README.md
.PHONY: image-gpu
image-gpu: ## Build the image for GPUs (IMAGE=REGISTRY/NAME:TAG), and print its layers and size
	@$(IMAGE_BUILD) gpu $(or $(IMAGE),localhost/pairwise-rm:$(VERSION))

.PHONY: image-cpu
image-cpu: ## Build the image for machines without a GPU
	@$(IMAGE_BUILD) cpu $(or $(IMAGE),localhost/pairwise-rm:$(VERSION)-cpu)

.PHONY: release-check
release-check: install $(TOOLS)/helm ## All of a release that needs no account (VERSION=X.Y.Z; CLUSTER=1: installed from a registry)
	@$(BIN)/python -m release.check $(VERSION)
	@$(if $(CLUSTER),$(MAKE) --no-print-directory e2e SUITES=e2e_release)

.PHONY: audit
audit: install ## Known vulnerabilities of all that the locks pin; asks PyPI (AUDIT= options of pip-audit)
	@$(BIN)/python -m release.audit $(AUDIT)

.PHONY: sbom
sbom: install ## Software bills of materials of both locks in dist/, as CycloneDX; an image holds its own
	@$(BIN)/python -m release.sbom dist

.PHONY: bump
bump: install ## Write VERSION=X.Y.Z into every file that names it
	@$(BIN)/python -m release.versions $(VERSION)
	@$(MAKE) --no-print-directory manifests

.PHONY: chart
chart: install $(TOOLS)/helm-docs ## Write the chart's recipes, schema and README from the package and values.yaml
	@$(BIN)/python -m charts.generate
	@$(TOOLS)/helm-docs --chart-search-root charts --sort-values-order file --log-level warning

.PHONY: docs
docs: install ## Write the generated pages of docs/, build the site into site/ and check it
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m pytest tests/docs -q
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html; with search: $(BIN)/python -m http.server --directory site"

.PHONY: manifests
manifests: chart $(TOOLS)/helm ## Render manifests/ from the chart
	@$(BIN)/python -m charts.manifests

.PHONY: tools
tools: $(addprefix $(TOOLS)/,helm kubeconform helm-docs actionlint) ## Build helm, kubeconform, helm-docs and actionlint into .tools

$(TOOLS)/helm: MODULE := helm.sh/helm/v4/cmd/helm@v4.3.1
$(TOOLS)/kubeconform: MODULE := github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
$(TOOLS)/helm-docs: MODULE := github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2
$(TOOLS)/actionlint: MODULE := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# Signs what release.yaml pushes; nothing here calls it.
$(TOOLS)/cosign: MODULE := github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
$(TOOLS)/%:
	@command -v go >/dev/null || { echo "$@: Go is needed to build it; install Go, or put the tool there"; exit 2; }
	@echo "building $@"
	@GOBIN=$(abspath $(TOOLS)) go install $(MODULE)

.PHONY: clean
clean: ## Remove runs, models and caches (not .venv)
	@rm -rf runs models dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
