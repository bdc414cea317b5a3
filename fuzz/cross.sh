#!/bin/sh
# Build the library and the fuzz targets for each machine named, and run there,
# under qemu: the golden streams, which must encode as on the machine named
# first, and all inputs of the targets. A machine is left out where its
# compiler or qemu is missing.
set -eu
cd "$(dirname "$0")/.."
first=
for machine in "$@"; do
    compiler=$machine-linux-gnu-gcc
    qemu=qemu-$machine
    if [ "$machine" = native ]; then
        compiler=${CC:-cc}
        qemu=env
    fi
    if ! command -v "$compiler" >/dev/null || ! command -v "$qemu" >/dev/null; then
        echo "cross: $machine is left out: there is no $compiler or no $qemu"
        continue
    fi
    folder=build/cross/$machine
    rm -rf "$folder"
    mkdir -p "$folder"
    compile="$compiler -std=c11 -O2 -Wall -Wextra"
    for source in csrc/*.c fuzz/main.c fuzz/common.c fuzz/queries.c; do
        $compile -c -o "$folder/$(basename "$source" .c).o" "$source"
    done
    mv "$folder/main.o" "$folder/main"
    $compile -static -o "$folder/golden" fuzz/golden.c "$folder"/*.o
    $qemu "$folder/golden" tests/data/*.ckl >"$folder/golden.txt"
    first=${first:-$folder/golden.txt}
    cmp "$first" "$folder/golden.txt"
    echo "cross: $machine: $(wc -l <"$folder/golden.txt") golden streams decode and encode"
    mv "$folder/main" "$folder/main.o"
    for target in decode measure edit roundtrip; do
        $compile -static -o "$folder/$target" "fuzz/$target.c" "$folder"/*.o
        seeds=fuzz/seeds/streams
        [ $target = roundtrip ] && seeds=fuzz/seeds/arrays
        find $seeds fuzz/regressions/$target -type f ! -name '.*' |
            $qemu "$folder/$target" >"$folder/$target.txt"
        echo "cross: $machine: $target: $(tail -n 1 "$folder/$target.txt")"
    done
done
