# `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
NEWER ?= $(shell for v in 3.13 3.12; do \
	for p in python$$v $$HOME/.pyenv/versions/$$v.*/bin/python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import venv' 2>/dev/null && echo $$p && exit; done; done)
DATA ?=

.PHONY: demo bench stages test test-newer lint lint-python lint-c lint-format clean
demo: .venv/ready
	.venv/bin/python -m numcodecs_crackle.demo $(DATA)

# Twenty minutes; QUICK=1 for a first look, which is printed and not kept.
bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

# Where the time goes in a stream of your own (.ckl), by stage; x86-64.
stages:
	mkdir -p build
	$(CC) -O3 -std=c11 -D_GNU_SOURCE -o build/stages benchmarks/stages.c \
		$(filter-out csrc/decode.c csrc/encode.c,$(wildcard csrc/*.c))
	build/stages $(DATA)

test: .venv/ready test-newer
	.venv/bin/python -m pytest -q

# The same on a newer Python, with the newer zarr it gets, where one is installed.
test-newer:
ifneq ($(NEWER),)
	$(MAKE) .venv-newer/ready VENV_PYTHON=$(NEWER)
	.venv-newer/bin/python -m pytest -q
endif

# What ruff, mypy, clang-format and clang-tidy have to say, of the versions that
# the extra `dev` pins; clang-tidy only looks at what changed since it was content.
lint: .venv-dev/ready
	$(MAKE) -j2 lint-python lint-c
lint-python:
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy numcodecs_crackle
LINT_C := $(wildcard csrc/*.c fuzz/*.c) benchmarks/stages.c
LINT_H := $(wildcard csrc/*.h fuzz/*.h)
lint-c: lint-format $(LINT_C:%.c=build/lint/%.tidy)
lint-format:
	.venv-dev/bin/clang-format --dry-run --Werror $(LINT_C) $(LINT_H)
build/lint/%.tidy: %.c $(LINT_H) .clang-tidy .venv-dev/ready
	@mkdir -p $(@D)
	.venv-dev/bin/clang-tidy --quiet $< --
	@touch $@

VENV_PYTHON ?= $(PYTHON)
SOURCES := $(wildcard csrc/*) $(wildcard *.py) pyproject.toml
EXTRAS := test,demo
.venv-bench/ready: EXTRAS := bench
.venv-fuzz/ready: EXTRAS := test
.venv-dev/ready: EXTRAS := test,demo,dev
.venv/ready .venv-newer/ready .venv-bench/ready .venv-fuzz/ready .venv-dev/ready: $(SOURCES)
	$(VENV_PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --upgrade pip setuptools
	$(@D)/bin/python -m pip install -q -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf .venv .venv-newer .venv-bench .venv-fuzz .venv-dev build dist *.egg-info numcodecs_crackle/_crackle*

include fuzz/fuzz.mk
