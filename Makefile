# Pelagos. `make demo` runs the main job; `make test` installs what tests need and runs all that need no Kubernetes node.
# Everything is installed below .venvs/ from requirements/*.txt (pinned, with hashes).
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENVS := $(CURDIR)/.venvs
UV := $(VENVS)/tools/bin/uv
BIN := $(VENVS)/control-plane/bin
FUZZ_SECONDS ?= 300
export PELAGOS_HOME ?= $(CURDIR)/.pelagos
export PELAGOS_ENVIRONMENTS ?= $(VENVS)
# Packages of other environments must not leak into ours. And in containers that set PYTHONDONTWRITEBYTECODE, every process would
# compile its imports again: 8 s instead of 3 s for a training step.
unexport PYTHONPATH VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

# Downloads mostly wait for the network and builds use one core, so independent targets run at the same time.
MAKEFLAGS += --jobs=4

help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: install samples ## Run the main job end to end (KEEP=1 leaves it running).
	@$(BIN)/pelagos demo --samples manifests/samples $(if $(KEEP),--keep)

install: $(VENVS)/.control-plane $(VENVS)/.gateway $(VENVS)/.pipelines $(VENVS)/.hub $(VENVS)/.tracking $(VENVS)/.triton control-plane ## Install all environments and the embedded control plane.
	@echo 'export PATH="$(BIN):$$PATH" PELAGOS_HOME="$(PELAGOS_HOME)" PELAGOS_ENVIRONMENTS="$(PELAGOS_ENVIRONMENTS)"' > $(VENVS)/activate
	@echo "Installed. To use it by hand:  source .venvs/activate && pelagos up"

control-plane: $(VENVS)/.control-plane
	@$(BIN)/pelagos control-plane install

samples: $(VENVS)/.pipelines ## Fetch the real FlowCam images and compose the samples.
	@PELAGOS_TOOLS=$(VENVS)/tools $(CURDIR)/tools/samples.sh $(PELAGOS_HOME)/data/samples

test: install samples $(VENVS)/.dev $(VENVS)/.pipelines-dev $(VENVS)/.prometheus $(VENVS)/.chromium $(VENVS)/.kserve $(VENVS)/.object-storage $(VENVS)/.deepaas $(VENVS)/.oidc $(VENVS)/.cvat-sdk $(VENVS)/.label-studio $(VENVS)/.metadata $(VENVS)/.oracles $(VENVS)/.oscar $(VENVS)/.tensorboard $(VENVS)/.wandb $(VENVS)/.sbom $(VENVS)/.site upstream-tools ## Run all checks, and all tests that need no Kubernetes node (THOROUGH=1: more simulated lives; SHUFFLE=7: in another order).
	@$(if $(THOROUGH),PELAGOS_TEST_THOROUGH=1) $(if $(SHUFFLE),PELAGOS_TEST_SHUFFLE=$(SHUFFLE)) tools/test.sh

test-cluster: install samples $(VENVS)/.dev $(VENVS)/.kserve $(VENVS)/.object-storage $(VENVS)/.sbom cluster-node ## Run the tests on a real Kubernetes of one and two nodes (needs root on Debian 12).
	@tools/test.sh cluster

fuzz: $(VENVS)/.pipelines-dev ## Look for files that upset what parses them, longer than the tests do (FUZZ_SECONDS for each parser).
	@PELAGOS_FUZZ_SECONDS=$(FUZZ_SECONDS) $(VENVS)/pipelines-dev/bin/pytest -q tests/fuzz

cluster-node: control-plane # not in parallel, since both compile parts of the same modules
	@tools/node/install.sh
	@tools/definitions.sh

upstream-tools: | control-plane # not in parallel, since both keep all cores busy if nothing is cached
	@set -o pipefail; for program in kstatus helm; do \
	  UV=$(UV) nice operator/pelagos/embedded/upstream/build.sh tools/upstream/$$program $$program | sed 's/^::/ /' || \
	    echo "Tests that need $$program will be skipped." >&2; \
	done

tensorboard: $(VENVS)/.tensorboard ## Install TensorBoard, which `pelagos tensorboard` starts.

wandb: $(VENVS)/.wandb ## Install the client of Weights & Biases, for trainings that ask for it (spec.tracking.wandb).

images: $(VENVS)/.control-plane $(VENVS)/.sbom ## Build the container images: REGISTRY=host/path [TAG=] [PUSH=1] [ENGINE=docker|podman|buildah] [IMAGES="operator serving"].
	@$(BIN)/python tools/images.py --registry="$(REGISTRY)" --tag="$(TAG)" $(if $(filter 1,$(PUSH)),--push) --engine="$(ENGINE)" \
	  --images="$(IMAGES)" --torch-index="$(TORCH_INDEX)" --source="$(SOURCE)" --build-options="$(BUILD_OPTIONS)"

sbom: $(VENVS)/.sbom ## Write a bill of materials for each image to build/sbom.
	@tools/sbom.sh

lint: $(VENVS)/.dev $(VENVS)/.pipelines-dev ## Run the linters only.
	@tools/lint.sh

generate: $(VENVS)/.control-plane $(VENVS)/.pipelines ## Regenerate everything that is generated and committed.
	@tools/generate.sh

bench: install $(VENVS)/.dev $(VENVS)/.pipelines-dev $(VENVS)/.object-storage samples ## Measure; writes docs/benchmarks.md.
	@$(BIN)/python bench/run.py

sample-results: install samples ## Train the samples, an hour on 2 cores (ONLY="detection classification"); writes docs/sample-results.md.
	@PELAGOS_HOME=$(CURDIR)/build/sample-results PELAGOS_DATA_ROOT=$(PELAGOS_HOME)/data \
	  $(BIN)/python tools/sample_results.py $(addprefix --only=,$(ONLY))

honest-splits: install samples ## Train on one survey that is split in three ways; writes docs/honest-splits.md.
	@$(VENVS)/pipelines/bin/python tools/honest_splits.py $(PELAGOS_HOME)/data/samples

pictures: install samples $(VENVS)/.dev $(VENVS)/.prometheus $(VENVS)/.chromium ## Draw the pictures of docs/ again, a quarter of an hour on 2 cores.
	@PELAGOS_SAMPLES=$(PELAGOS_HOME)/data/samples tools/pictures.sh

site: $(VENVS)/.site ## Build the documentation site into build/site (SOURCE=https://...: where links to files lead).
	@SOURCE="$(SOURCE)" tools/site.sh

lock: $(UV) ## Resolve requirements/*.in anew.
	@tools/lock.sh

clean: ## Stop Pelagos; remove environments and .pelagos (neither the cached control plane nor a PELAGOS_HOME elsewhere).
	@[ ! -x $(BIN)/pelagos ] || PELAGOS_HOME=$(CURDIR)/.pelagos $(BIN)/pelagos down
	rm -rf $(VENVS) $(CURDIR)/.pelagos

$(UV): requirements/tools.txt tools/bootstrap.sh
	@PYTHON=$(PYTHON) tools/bootstrap.sh $(VENVS)/tools
	@touch $@

$(VENVS)/.control-plane: requirements/control-plane.txt pyproject.toml | $(UV)
	@UV=$(UV) tools/environment.sh control-plane $(VENVS)/control-plane editable
	@touch $@

$(VENVS)/.dev: requirements/dev.txt $(VENVS)/.control-plane
	@UV=$(UV) tools/environment.sh dev $(VENVS)/dev editable
	@touch $@

$(VENVS)/.pipelines: requirements/pipelines.txt pyproject.toml | $(UV)
	@UV=$(UV) tools/environment.sh pipelines $(VENVS)/pipelines editable
	@touch $@

$(VENVS)/.pipelines-dev: requirements/pipelines-dev.txt $(VENVS)/.pipelines
	@UV=$(UV) tools/environment.sh pipelines-dev $(VENVS)/pipelines-dev editable
	@touch $@

$(VENVS)/.tracking: requirements/tracking.txt | $(UV)
	@UV=$(UV) tools/environment.sh tracking $(VENVS)/tracking
	@touch $@

$(VENVS)/.gateway: requirements/gateway.txt pyproject.toml | $(UV)
	@UV=$(UV) tools/environment.sh gateway $(VENVS)/gateway editable
	@touch $@

$(VENVS)/.triton: requirements/triton.txt | $(UV)
	@UV=$(UV) tools/environment.sh triton $(VENVS)/triton no-deps
	@touch $@

$(VENVS)/.deepaas: requirements/deepaas.txt pyproject.toml | $(UV)
	@UV=$(UV) tools/environment.sh deepaas $(VENVS)/deepaas editable
	@touch $@

$(VENVS)/.kserve: requirements/kserve.txt | $(UV)
	@UV=$(UV) tools/environment.sh kserve $(VENVS)/kserve no-deps
	@touch $@

$(VENVS)/.hub: requirements/hub.txt pyproject.toml | $(UV)
	@UV=$(UV) tools/environment.sh hub $(VENVS)/hub editable
	@touch $@

# Includes the OpenID provider that tests use.
$(VENVS)/.oidc: requirements/oidc.txt tests/oidc_provider/package-lock.json tools/oidc.sh | $(UV)
	@UV=$(UV) tools/environment.sh oidc $(VENVS)/oidc
	@tools/oidc.sh $(VENVS)/oidc
	@touch $@

$(VENVS)/.object-storage: requirements/object-storage.txt | $(UV)
	@UV=$(UV) tools/environment.sh object-storage $(VENVS)/object-storage
	@touch $@

$(VENVS)/.metadata: requirements/metadata.txt | $(UV)
	@UV=$(UV) tools/environment.sh metadata $(VENVS)/metadata
	@touch $@

$(VENVS)/.oracles: requirements/oracles.txt | $(UV)
	@UV=$(UV) tools/environment.sh oracles $(VENVS)/oracles
	@touch $@

$(VENVS)/.tensorboard: requirements/tensorboard.txt | $(UV)
	@UV=$(UV) tools/environment.sh tensorboard $(VENVS)/tensorboard
	@touch $@

$(VENVS)/.wandb: requirements/wandb.txt | $(UV)
	@UV=$(UV) tools/environment.sh wandb $(VENVS)/wandb
	@touch $@

$(VENVS)/.cvat-sdk: requirements/cvat-sdk.txt | $(UV)
	@UV=$(UV) tools/environment.sh cvat-sdk $(VENVS)/cvat-sdk
	@touch $@

$(VENVS)/.oscar: requirements/oscar.txt | $(UV)
	@UV=$(UV) tools/environment.sh oscar $(VENVS)/oscar
	@touch $@

$(VENVS)/.label-studio: requirements/label-studio.txt | $(UV)
	@UV=$(UV) tools/environment.sh label-studio $(VENVS)/label-studio
	@touch $@

# Not part of .dev: it brings grammars that every process that imports jsonschema would compile, for 3 seconds.
$(VENVS)/.sbom: requirements/sbom.txt | $(UV)
	@UV=$(UV) tools/environment.sh sbom $(VENVS)/sbom
	@touch $@

$(VENVS)/.site: requirements/site.txt | $(UV)
	@UV=$(UV) tools/environment.sh site $(VENVS)/site
	@touch $@

$(VENVS)/.prometheus: tools/prometheus.sh | control-plane # not in parallel, since both may call apt-get
	@tools/prometheus.sh $(VENVS)/prometheus
	@touch $@

$(VENVS)/.chromium: tools/chromium.sh | $(VENVS)/.prometheus # not in parallel, since both may call apt-get
	@tools/chromium.sh $(VENVS)/chromium
	@touch $@

.PHONY: help demo install control-plane samples test test-cluster cluster-node images upstream-tools tensorboard wandb sbom lint generate bench pictures site lock clean
