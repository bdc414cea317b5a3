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
FUZZ_CLANG := $(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address $(UNDEFINED)
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
