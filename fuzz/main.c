/* Replay inputs with any compiler: run the fuzz target that this is linked
 * with on each file named, or on each file named in standard input. */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void replay(const char *path)
{
    size_t size;
    uint8_t *data = fuzz_read(path, &size);
    /* The last line of a run that crashes names the input. */
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size);
    fuzz_free(data);
}

int main(int argc, char **argv)
{
    int count = argc - 1;
    char path[4096];
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    while (argc == 1 && fgets(path, sizeof path, stdin)) {
        char *end = strchr(path, '\n');
        if (end)
            *end = 0;
        replay(path);
        count++;
    }
    printf("%d inputs replayed\n", count);
    return count ? 0 : 2;
}
