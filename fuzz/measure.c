/* Fuzz target: every query and measure, of one stream and of two. */
#include "common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (!fuzz_split(data, size, &input))
        return 0;
    fuzz_choose_cpu(&input.choices);
    struct fuzz_stream first, second;
    struct fuzz_volume first_volume, second_volume;
    if (!fuzz_open(input.data[0], input.size[0], &first))
        return 0;
    const bool two = fuzz_open(input.data[1], input.size[1], &second);
    fuzz_decode(&first, &first_volume);
    if (two)
        fuzz_decode(&second, &second_volume);
    fuzz_check_queries(&first, &first_volume, two ? &second : NULL,
                       &second_volume, &input.choices);
    if (two) {
        fuzz_volume_free(&second_volume);
        fuzz_close(&second);
    }
    fuzz_volume_free(&first_volume);
    fuzz_close(&first);
    return 0;
}
