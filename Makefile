# Every target sets up what it needs: uv where it is missing (into .uv/), then everything in the lock file into $(VENV)/.
# `make ... VENV=` sets nothing up and uses the environment that is active, such as that of environment.yml.
PRESET ?= smoke
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
PROFILE ?= default
VENV ?= .venv
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
READY := $(if $(VENV),$(VENV)/.ready)
TABLES := small confirm deeper breadth whole whole_gpu paper paper_full
export OMP_NUM_THREADS ?= 1
ifneq ($(VENV),)
export PATH := $(abspath $(VENV))/bin:$(PATH)
endif

.PHONY: help setup reproduce plan status report figures test lint notebooks html lab bench gpu clean
.DELETE_ON_ERROR:

help:                  ## this list
	@grep -E '^[a-z]+: .*##' Makefile | sed 's/:.*##/ /' | awk '{printf "make %-12s", $$1; $$1=""; print}'

setup: $(READY)        ## install everything into .venv/, or into VENV

.uv/bin/uv:
	@echo "== uv is missing: installing it into .uv/"
	@python3 -m venv .uv && .uv/bin/pip install --quiet uv

$(or $(READY),.venv/.ready): pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	@echo "== setting up $(@D)/ from uv.lock (several GB on the first call)"
	@UV_PROJECT_ENVIRONMENT="$(@D)" $(UV) sync --locked --all-extras --compile-bytecode --quiet && touch $@

reproduce: $(READY)    ## all notebooks at PRESET (smoke), figures/PRESET and the claims table; PROFILE says where
	@echo "== reproducing PRESET=$(PRESET) by profiles/$(PROFILE); a line for each finished step"
	@snakemake --workflow-profile profiles/$(PROFILE) $(if $(filter default gpu,$(PROFILE)),--cores $(CORES)) \
	  --config 'preset="$(PRESET)"'
	@cat "$$(python -m fairlth where "$(PRESET)")/claims.txt"

plan: $(READY)         ## what PRESET would take: runs, dense trainings, device hours, disk; trains nothing
	@python -m fairlth plan "$(PRESET)" $(if $(STEPS),--steps "$(STEPS)")

status: $(READY)       ## how far PRESET is, from another terminal; where failed notebooks are
	@python -m fairlth status "$(PRESET)"

report: $(READY)       ## Snakemake's report on PRESET with its figures and times, one HTML file
	@file="$$(python -m fairlth where "$(PRESET)")/report.html" && \
	  snakemake --cores 1 --config 'preset="$(PRESET)"' --report "$$file" && echo "== $$file"

figures: $(READY)      ## figures of every committed table that has its page, without training
	@for preset in $(TABLES); do page=data/results/$$preset.md; if [ -f $$page ]; then \
	  echo "== figures of $$preset from data/results/$$preset.csv"; \
	  snakemake --workflow-profile profiles/default --cores $(CORES) --config preset=$$preset train=False --forceall || exit 1; \
	  cat "$$(python -m fairlth where $$preset)/claims.txt"; \
	  else echo "== $$page is not there: no figures of $$preset"; fi; done

test: $(READY)         ## lint, unit tests, every notebook through Papermill and through nbval
	@echo "== 1 of 3: ruff, mypy and import-linter" && ruff check --quiet . && ruff format --check --quiet . && mypy && lint-imports > /dev/null
	@echo "== 2 of 3: pytest" && rm -rf runs/test && \
	  NOTEBOOKS_HOME=runs/test pytest -n $(CORES) --dist worksteal --durations 8
	@echo "== 3 of 3: nbval" && FAIRLTH_HOME=runs/test pytest -n $(CORES) --dist loadfile --nbval-lax \
	  --nbval-current-env --nbval-cell-timeout 600 notebooks
	@if [ -n "$$CI" ] && command -v chromium > /dev/null; then echo "== JupyterLab in a browser" && pytest -m browser tests/test_browser.py; fi

lint: $(READY)         ## ruff, with what it can mend mended, and mypy
	@ruff check --fix . && ruff format . && mypy

notebooks: $(READY)    ## execute the notebooks in place at their defaults, as they are committed
	@rm -rf runs/smoke && for notebook in notebooks/*.ipynb; do echo "== $$notebook"; \
	  TQDM_DISABLE=1 jupyter nbconvert --to notebook --execute --inplace --log-level WARN $$notebook || exit 1; done
	@python notebooks/tidy.py

html: $(READY)         ## the notebooks as HTML pages that need no network, as executed at PRESET where they were
	@folder="$$(python -m fairlth where "$(PRESET)")" && for notebook in notebooks/*.ipynb; do \
	  executed="$$folder/$$notebook"; if [ -f "$$executed" ]; then notebook="$$executed"; fi; set -- "$$@" "$$notebook"; done && \
	  jupyter nbconvert --to html --config notebooks/html/config.py --output-dir "$$folder/html" "$$@" && \
	  cp "$$folder/html/00_overview.html" "$$folder/html/index.html" && echo "== $$folder/html/index.html"

lab: $(READY)          ## JupyterLab on the notebooks
	@jupyter lab --notebook-dir . $$([ "$$(id -u)" != 0 ] || echo --allow-root)

bench: $(READY)        ## speed, as ratios measured in one run on a quiet machine, into benchmarks/results.md
	@python benchmarks/run_all.py

gpu: $(READY)          ## first contact with a GPU, ten minutes: tests, speed, two tickets; benchmarks/results_<card>.md
	@python -m benchmarks.gpu

clean:                 ## remove results and caches, keep .venv/ and committed tables
	@rm -rf runs figures/smoke data/results/smoke.* data/cache .snakemake
