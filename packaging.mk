# The wheel, alone and as a new user meets it, on every Python there is; linters; the site.
#
#   make test          make dist, and make wheel-VERSION of each Python
#   make dist          the sdist, and the wheel that is built from it
#   make wheel-3.12    that wheel in a fresh environment: alone, pasting the README, opening
#                      a notebook, and the test suite
#   make check         make lint, and make docs
#   make lint          what linters say of Python and C
VERSIONS := 3.11 3.12 3.13
python-of = $(firstword $(shell for p in python$(1) $$HOME/.pyenv/versions/$(1).*/bin/python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import venv, ensurepip' 2>/dev/null && echo $$p; done))
FOUND := $(foreach version,$(VERSIONS),$(if $(call python-of,$(version)),$(version)))
# One of them tells what the tests have reached; the newest does so at the least cost.
COVERED := $(lastword $(FOUND))
# What one of them shows for all: C alone, pages alone, and all notebooks, which take a minute.
ONCE := design_page docs fuzz_corpus notebooks
# What the README says to install for all that its examples use.
README_EXTRAS := cli,dask,files,viewer,xarray
# A notebook is executed as `jupyter notebook` does, without its pages.
NOTEBOOK := nbclient ipykernel
comma := ,
# Of the shell, as they are made while make runs.
WHEEL := $$(echo dist/*.whl)

.PHONY: test check dist lint lint-python lint-c environments $(VERSIONS:%=wheel-%)
test:
	$(if $(FOUND),@echo "Pythons: $(FOUND)",$(error no Python of $(VERSIONS)))
	$(MAKE) dist
	$(MAKE) -j2 environments
	$(MAKE) $(FOUND:%=wheel-%)

# In an environment that is there from `make test`.
check:
	$(MAKE) lint TYPED=.venv-$(COVERED)
	$(MAKE) docs SITE=.venv-$(COVERED)

environments: $(FOUND:%=.venv-%/ready)

dist: build/dist-ready
# What tests need is packed, too: of the sdist they are run.
PACKED := MANIFEST.in README.md LICENSE $(wildcard numcodecs_crackle/*.py $(foreach folder, \
	tests tests/data tests/data/* docs docs/* notebooks benchmarks fuzz,$(folder)/*.*) \
	fuzz/seeds/*/* fuzz/regressions/*/*)
build/dist-ready: .venv-dev/ready $(SOURCES) $(PACKED)
	rm -rf dist build/lib* build/bdist* *.egg-info
	.venv-dev/bin/python -m build -q
	.venv-dev/bin/twine check --strict dist/*
	.venv-dev/bin/abi3audit --strict dist/*.whl
	mkdir -p build && touch $@

# What the extra brings and not the package, which would be compiled for nothing.
.venv-dev/ready: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q $$($(@D)/bin/python -c 'import tomllib as t; \
		print(*t.load(open("$<", "rb"))["project"]["optional-dependencies"]["dev"])')
	touch $@

# What ruff, mypy, clang-format and clang-tidy have to say, of the versions that the extra `dev`
# pins. mypy sees the packages that tests are run with; clang-tidy only looks at what changed
# since it was content.
TYPED := .venv
LINT_C := $(wildcard csrc/*.c fuzz/*.c) benchmarks/stages.c
LINT_H := $(wildcard csrc/*.h fuzz/*.h)
lint: .venv-dev/ready $(TYPED)/ready
	$(MAKE) -j2 lint-python lint-c
lint-python: .venv-dev/ready $(TYPED)/ready
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy --python-executable $(TYPED)/bin/python
	.venv-dev/bin/mypy --python-executable $(TYPED)/bin/python --strict tests/typing_consumer.py
lint-c: $(LINT_C:%.c=build/lint/%.tidy)
	.venv-dev/bin/clang-format --dry-run --Werror $(LINT_C) $(LINT_H)
build/lint/%.tidy: %.c $(LINT_H) .clang-tidy | .venv-dev/ready
	@mkdir -p $(@D)
	.venv-dev/bin/clang-tidy --quiet $< --
	@touch $@

$(VERSIONS:%=.venv-%/ready): .venv-%/ready: build/dist-ready
	rm -rf $(@D)
	$(call python-of,$*) -m venv $(@D)
	$(@D)/bin/python -m pip install -q "$(WHEEL)"
	$(@D)/bin/python tests/try_wheel.py alone
	$(@D)/bin/python -m pip install -q "$(WHEEL)[$(README_EXTRAS)]" $(NOTEBOOK)
	$(@D)/bin/python tests/try_wheel.py readme README.md
	$(@D)/bin/python tests/try_wheel.py notebook notebooks/getting_started.ipynb
	$(@D)/bin/python -m pip install -q "$(WHEEL)[test$(if $(filter $*,$(COVERED)),$(comma)docs)]"
	touch $@

# From the sdist without its package: nothing but the wheel can be imported, and what tests
# need is in the sdist.
$(VERSIONS:%=wheel-%): wheel-%: .venv-%/ready
	rm -rf build/$@ && mkdir -p build/$@
	tar -x -C build/$@ --strip-components=1 -f dist/*.tar.gz
	rm -rf build/$@/numcodecs_crackle build/$@/*.egg-info
	cd build/$@ && COVERAGE_CORE=sysmon "$(CURDIR)/$(<D)/bin/pytest" -q -n 2 \
		$(if $(filter $*,$(COVERED)),--cov=numcodecs_crackle --cov-report=term:skip-covered, \
		$(ONCE:%=--ignore=tests/test_%.py))
