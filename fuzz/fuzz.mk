# Fuzzing, sanitizers and other machines. None of it is needed by `make test`.
#
#   make fuzz SECONDS=60     each target of fuzz/ for so long; clang with libFuzzer
#   make sanitize            the test suite under AddressSanitizer and UBSan; gcc
#   make sanitize-threads    many threads at once under ThreadSanitizer; gcc
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

.PHONY: fuzz $(FUZZ_TARGETS:%=fuzz-%)
fuzz: $(FUZZ_TARGETS:%=fuzz-%)

# What crashed is kept in fuzz/found; what went well and was new, in fuzz/corpus.
$(FUZZ_TARGETS:%=fuzz-%): fuzz-%: build/fuzz/%
	mkdir -p fuzz/corpus/$* fuzz/found
	build/fuzz/$* -max_total_time=$(SECONDS) -timeout=2 -rss_limit_mb=512 \
		-malloc_limit_mb=64 -max_len=8192 -print_final_stats=1 -verbosity=1 \
		-artifact_prefix=fuzz/found/$*- $(FUZZ_ARGS) \
		fuzz/corpus/$* $(FUZZ_SEEDS_$*) $(wildcard fuzz/regressions/$*)

build/fuzz/library/%.o: csrc/%.c $(C_HEADERS)
	mkdir -p $(@D)
	$(FUZZ_CLANG) -c -o $@ $<

.SECONDARY:
.SECONDEXPANSION:
$(FUZZ_TARGETS:%=build/fuzz/%): build/fuzz/%: fuzz/%.c $(FUZZ_SHARED) $$(FUZZ_MUTATE_$$*) \
		$(C_SOURCES:csrc/%.c=build/fuzz/library/%.o) $(C_HEADERS)
	$(FUZZ_CLANG) -fsanitize=fuzzer -o $@ $(filter %.c %.o,$^)

# The suite with an extension of its own, in a copy. Python's memory comes from
# malloc, so that the bounds of bytes objects are watched, too.
SANITIZERS := -fsanitize=address $(UNDEFINED)
PRELOAD = $(shell $(CC) -print-file-name=libasan.so):$(shell $(CC) -print-file-name=libubsan.so)
SANITIZE_PYTEST ?=
.PHONY: sanitize sanitize-threads
sanitize: .venv/ready
	rm -rf build/sanitize && mkdir -p build/sanitize
	tar -c --exclude=./build --exclude='./.*' --exclude='_crackle*' --exclude=./fuzz/corpus \
		--exclude='*.egg-info' --exclude=./demo-out . | tar -x -C build/sanitize
	cd build/sanitize && CRACKLE_CFLAGS="-O1 -g -fno-omit-frame-pointer $(SANITIZERS)" \
		LDFLAGS="$(SANITIZERS)" $(CURDIR)/.venv/bin/python setup.py -q build_ext --inplace
	cd build/sanitize && LD_PRELOAD=$(PRELOAD) PYTHONMALLOC=malloc PYTHONPATH=. \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
		UBSAN_OPTIONS=print_stacktrace=1 \
		$(CURDIR)/.venv/bin/python -m pytest -q -p no:cacheprovider \
		--deselect tests/test_fuzz_corpus.py $(SANITIZE_PYTEST)

# Encodes, decodes and measures from several threads, of one stream and of many.
sanitize-threads:
	mkdir -p build
	$(CC) -std=c11 -O1 -g -Wall -Wextra -fsanitize=thread -o build/threads \
		fuzz/threads.c $(C_SOURCES) -lpthread
	TSAN_OPTIONS=halt_on_error=1 build/threads tests/data/*.ckl

# Other machines, and first this one: the golden streams and all fuzz inputs.
.PHONY: cross
cross:
	CC=$(CC) sh fuzz/cross.sh native s390x aarch64
