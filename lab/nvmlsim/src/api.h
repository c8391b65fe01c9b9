/* How NVML's functions begin and end. */
#ifndef NVMLSIM_API_H
#define NVMLSIM_API_H

#include "server.h"

/* What a function needs, besides the lock. */
enum {
    WRITE = 1,     /* changes the state */
    PROCESSES = 2, /* looks at processes: those that died are gone */
    WHOLE = 4,     /* NOT_SUPPORTED on a MIG device */
    NO_MIG = 8,    /* NOT_SUPPORTED on a MIG device and on a GPU in MIG mode */
    PARENT = 16,   /* of a MIG device, its GPU is meant */
    LOST_TOO = 32, /* answers for a lost GPU as well */
};

/* Locks the state of an initialised session. On success the caller ends with api_end(). */
nvmlReturn_t api_begin(int needs);
nvmlReturn_t device_begin(nvmlDevice_t handle, int needs, int valid, target_t *target);
nvmlReturn_t api_end(nvmlReturn_t rc);
int api_session(void);

nvmlDevice_t device_handle(const gpu_t *gpu, const compute_t *compute);
nvmlGpuInstance_t instance_handle(const gpu_t *gpu, const instance_t *instance);
nvmlComputeInstance_t compute_handle(const gpu_t *gpu, const compute_t *compute);
nvmlReturn_t instance_begin(nvmlGpuInstance_t handle, int needs, int valid, target_t *target);
nvmlReturn_t compute_begin(nvmlComputeInstance_t handle, int needs, int valid, target_t *target);
nvmlReturn_t copy_text(char *to, unsigned length, const char *from);

/* DEVICE(flags, condition) { ... rc = ...; } END in a function with a parameter `device`: `t` is the target, `valid`
 * says whether the other parameters are (NULL pointers are not). */
#define DEVICE(needs, valid)                                           \
    target_t t;                                                        \
    nvmlReturn_t rc = device_begin(device, (needs), (valid), &t);      \
    if (rc != NVML_SUCCESS) return rc;
#define END return api_end(rc);

#endif
