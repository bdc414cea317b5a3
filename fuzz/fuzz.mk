# Fuzzing, sanitizers and other machines. None of it is needed by `make test`.
#
#   make fuzz SECONDS=60     each target of fuzz/ for so long; clang with libFuzzer
#   make fuzz-zarr           stored chunks, Python and C together: Atheris, which has wheels
#                            for some Pythons (PYTHON=...), and clang
#   make sanitize            the test suite under AddressSanitizer and UBSan; gcc
#   make sanitize-threads    many threads at once under ThreadSanitizer; gcc
#   make sanitize-memory     each allocation fails in its turn, under ASan and UBSan; gcc
#   make coverage-c          which lines of csrc/ the tests reach, by file; gcc
#   make cross               big-endian s390x and aarch64 under qemu, from Debian:
#                            gcc-s390x-linux-gnu gcc-aarch64-linux-gnu qemu-user
SECONDS ?= 60
CLANG ?= clang
FUZZ_TARGETS := decode measure edit roundtrip
FUZZ_SHARED := fuzz/common.c fuzz/queries.c
C_SOURCES := $(wildcard csrc/*.c)
C_HEADERS := $(wildcard csrc/*.h) fuzz/common.h
# Undefined behaviour ends a run, as a crash does.
UNDEFINED := -fsanitize=undefined -fno-sanitize-recover=undefined
FUZZ_FLAGS := -std=c11 -O2 -g -Wall -Wextra -fno-omit-frame-pointer
# So that small slices are walked in the way of large ones.
FUZZ_CLANG := $(CLANG) $(FUZZ_FLAGS) -DCRACKLE_LARGE_PLANE=64 -fsanitize=fuzzer-no-link,address $(UNDEFINED)
FUZZ_SEEDS_decode := fuzz/seeds/streams
FUZZ_SEEDS_measure := fuzz/seeds/streams
FUZZ_SEEDS_edit := fuzz/seeds/streams
FUZZ_SEEDS_roundtrip := fuzz/seeds/arrays
FUZZ_MUTATE_decode := fuzz/mutate.c
FUZZ_MUTATE_measure := fuzz/mutate.c
FUZZ_MUTATE_edit := fuzz/mutate.c

.PHONY: fuzz fuzz-zarr $(FUZZ_TARGETS:%=fuzz-%)
fuzz: $(FUZZ_TARGETS:%=fuzz-%)
	@if $(MAKE) -s .venv-fuzz/atheris; then $(MAKE) fuzz-zarr; else \
		echo "Left out: fuzz-zarr. Atheris has no wheel for $$($(PYTHON) --version);" \
		"name a Python that it has one for with PYTHON=..."; fi

# What crashed is kept in fuzz/found; what went well and was new, in fuzz/corpus.
$(FUZZ_TARGETS:%=fuzz-%): fuzz-%: build/fuzz/%
	mkdir -p fuzz/corpus/$* fuzz/found
	build/fuzz/$* -max_total_time=$(SECONDS) -timeout=2 -rss_limit_mb=512 \
		-malloc_limit_mb=64 -max_len=8192 -print_final_stats=1 -verbosity=1 \
		-artifact_prefix=fuzz/found/$*- $(FUZZ_ARGS) \
		fuzz/corpus/$* $(FUZZ_SEEDS_$*) $(wildcard fuzz/regressions/$*)

# In a copy whose extension has the sanitizers and tells libFuzzer where it is.
FUZZ_ZARR_FLAGS := -fsanitize=fuzzer-no-link,address $(UNDEFINED)
# Without what makes Python slow under ASan; bytes objects are watched by `make sanitize`.
FUZZ_ZARR_ASAN := allocator_may_return_null=1 detect_leaks=0 malloc_context_size=1 \
	quarantine_size_mb=8
fuzz-zarr: .venv-fuzz/atheris
	mkdir -p build/fuzz/zarr fuzz/corpus/zarr fuzz/found
	$(COPIED) | tar -x -C build/fuzz/zarr
	cd build/fuzz/zarr && CC=$(CLANG) LDSHARED="$(CLANG) -shared" LDFLAGS="$(FUZZ_ZARR_FLAGS)" \
		CRACKLE_CFLAGS="-O1 -g -fno-omit-frame-pointer $(FUZZ_ZARR_FLAGS)" \
		"$(CURDIR)/.venv-fuzz/bin/python" setup.py -q build_ext --inplace
	cd build/fuzz/zarr && PYTHONPATH=. \
		LD_PRELOAD=$$("$(CURDIR)/.venv-fuzz/bin/python" -c \
		'import atheris; print(atheris.path())')/asan_with_fuzzer.so \
		ASAN_OPTIONS=$(subst $() ,:,$(FUZZ_ZARR_ASAN)) \
		"$(CURDIR)/.venv-fuzz/bin/python" fuzz/zarr_chunk.py -max_total_time=$(SECONDS) \
		-timeout=5 -rss_limit_mb=2048 -malloc_limit_mb=64 -max_len=4096 \
		-print_final_stats=1 -artifact_prefix="$(CURDIR)/fuzz/found/zarr-" $(FUZZ_ARGS) \
		"$(CURDIR)/fuzz/corpus/zarr" fuzz/seeds/zarr $(wildcard fuzz/regressions/zarr)

.venv-fuzz/atheris: .venv-fuzz/ready
	.venv-fuzz/bin/python -m pip install -q --only-binary atheris 'atheris>=3'
	touch $@

build/fuzz/library/%.o: csrc/%.c $(C_HEADERS)
	mkdir -p $(@D)
	$(FUZZ_CLANG) -c -o $@ $<

.SECONDARY:
.SECONDEXPANSION:
$(FUZZ_TARGETS:%=build/fuzz/%): build/fuzz/%: fuzz/%.c $(FUZZ_SHARED) $$(FUZZ_MUTATE_$$*) \
		$(C_SOURCES:csrc/%.c=build/fuzz/library/%.o) $(C_HEADERS)
	$(FUZZ_CLANG) -fsanitize=fuzzer -o $@ $(filter %.c %.o,$^)

# What a copy of all this needs that is to have an extension of its own.
COPIED := tar -c --exclude=./build --exclude='./.*' --exclude='_crackle*' \
	--exclude=./fuzz/corpus --exclude='*.egg-info' --exclude=./demo-out .

# The suite with an extension of its own, in a copy. Python's memory comes from
# malloc, so that the bounds of bytes objects are watched, too. The path is
# absolute: kernels of notebooks run elsewhere.
SANITIZERS := -fsanitize=address $(UNDEFINED)
PRELOAD = $(shell $(CC) -print-file-name=libasan.so):$(shell $(CC) -print-file-name=libubsan.so)
SANITIZE_PYTEST ?=
.PHONY: sanitize sanitize-threads sanitize-memory coverage-c
sanitize: .venv/ready
	rm -rf build/sanitize && mkdir -p build/sanitize
	$(COPIED) | tar -x -C build/sanitize
	cd build/sanitize && CRACKLE_CFLAGS="-O1 -g -fno-omit-frame-pointer $(SANITIZERS)" \
		LDFLAGS="$(SANITIZERS)" "$(CURDIR)/.venv/bin/python" setup.py -q build_ext --inplace
	cd build/sanitize && LD_PRELOAD=$(PRELOAD) PYTHONMALLOC=malloc PYTHONPATH="$$PWD" \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
		UBSAN_OPTIONS=print_stacktrace=1 \
		"$(CURDIR)/.venv/bin/python" -m pytest -q -p no:cacheprovider \
		--deselect tests/test_fuzz_corpus.py $(SANITIZE_PYTEST)

# Encodes, decodes and measures from several threads, of one stream and of many.
sanitize-threads:
	mkdir -p build
	$(CC) -std=c11 -O1 -g -Wall -Wextra -fsanitize=thread -o build/threads \
		fuzz/threads.c $(C_SOURCES) -lpthread
	TSAN_OPTIONS=halt_on_error=1 build/threads tests/data/*.ckl

# Every call, on small streams, with each of its allocations failing.
sanitize-memory:
	mkdir -p build
	$(CC) $(FUZZ_FLAGS) $(SANITIZERS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc \
		-o build/memory fuzz/memory.c $(FUZZ_SHARED) $(C_SOURCES)
	build/memory tests/data/*.ckl

# The lines of csrc/ that tests run: those of streams, edits and measures, and
# build/memory. What is left asks for gigabytes, or for memory that runs out in
# volumes larger than those, or is for other machines.
COVERAGE := -O0 -g --coverage -fprofile-update=atomic
COVERAGE_TESTS := $(addprefix tests/test_,$(addsuffix .py,array claims codecs components damage drop_in \
	edit failing golden hostile library lies markov measure partial pins reference stack stream tables))
coverage-c: .venv/ready .venv-dev/ready
	rm -rf build/coverage && mkdir -p build/coverage
	$(COPIED) | tar -x -C build/coverage
	cd build/coverage && CRACKLE_CFLAGS="$(COVERAGE)" LDFLAGS=--coverage \
		"$(CURDIR)/.venv/bin/python" setup.py -q build_ext --inplace
	cd build/coverage && PYTHONPATH="$$PWD" \
		"$(CURDIR)/.venv/bin/python" -m pytest -q -p no:cacheprovider $(COVERAGE_TESTS)
	cd build/coverage && mkdir memory && cd memory && $(CC) -std=c11 $(COVERAGE) \
		-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc -o memory \
		$(addprefix ../,fuzz/memory.c $(FUZZ_SHARED) $(C_SOURCES)) && ./memory ../tests/data/*.ckl
	cd build/coverage && "$(CURDIR)/.venv-dev/bin/gcovr" --root . --filter csrc/ \
		--merge-mode-functions=separate --txt - --html-details memory/report.html

# Other machines, and first this one: the golden streams and all fuzz inputs.
.PHONY: cross
cross:
	CC=$(CC) sh fuzz/cross.sh native s390x aarch64
