/* The controlling side's own calls; control.py declares the same for Python. */
#ifndef NVMLSIM_CONTROL_H
#define NVMLSIM_CONTROL_H

#include <stdint.h>

#include "nvml.h"

/* From at[i] seconds on, percent[i]; from the beginning again after `loop` seconds, if that is not 0. */
typedef struct {
    const double *at, *percent;
    unsigned count;
    double loop;
} load_t;

const char *nvmlsim_error(void);
nvmlReturn_t nvmlsim_claim(const char *device, unsigned kind, uint64_t memory, const load_t *load);

#endif
