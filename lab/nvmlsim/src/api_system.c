/* Sessions, handles and what is not about one device. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"

static const char DRIVER_VERSION[] = "580.95.05", LIBRARY_VERSION[] = "13.580.95.05";
enum { CUDA_VERSION = 13000 };

/* A handle is a number in a pointer: kind, GPU, and the serial of the thing or the driver's epoch. So one that outlives
 * what it stood for is noticed. */
enum { DEVICE_KIND = 1, MIG_KIND, INSTANCE_KIND, COMPUTE_KIND };

static int users; /* nvmlInit calls without their nvmlShutdown */
static int session = -1;
static uint32_t epoch;

int api_session(void) { return session; }

/* A child of fork() has its parent's NVML open, but no session of its own. */
static void in_child(void) { session = -1; }
__attribute__((constructor)) static void on_load(void) { pthread_atfork(NULL, NULL, in_child); }

/* Locks the state once the driver answers. */
static nvmlReturn_t driver_lock(void) {
    nvmlReturn_t rc = state_lock();
    while (rc == NVML_SUCCESS && S->loaded == DRIVER_HANGS) {
        state_abort();
        usleep(20000);
        rc = state_lock();
    }
    return rc;
}

nvmlReturn_t api_begin(int needs) {
    if (!users) return NVML_ERROR_UNINITIALIZED;
    nvmlReturn_t rc = driver_lock();
    if (rc != NVML_SUCCESS) return rc;
    if (!S->loaded || S->driver_epoch != epoch) {
        state_abort();
        return NVML_ERROR_DRIVER_NOT_LOADED;
    }
    if (needs & WRITE) state_change();
    return NVML_SUCCESS;
}

nvmlReturn_t api_end(nvmlReturn_t rc) {
    state_unlock();
    return rc;
}

static void *make_handle(uint64_t kind, const gpu_t *gpu, uint64_t serial) {
    return (void *)(kind << 60 | (uint64_t)gpu->index << 52 | (serial & ((1ULL << 52) - 1)));
}

nvmlDevice_t device_handle(const gpu_t *gpu, const compute_t *compute) {
    return compute ? make_handle(MIG_KIND, gpu, compute->serial) : make_handle(DEVICE_KIND, gpu, S->driver_epoch);
}

nvmlGpuInstance_t instance_handle(const gpu_t *gpu, const instance_t *instance) {
    return make_handle(INSTANCE_KIND, gpu, instance->serial);
}

nvmlComputeInstance_t compute_handle(const gpu_t *gpu, const compute_t *compute) {
    return make_handle(COMPUTE_KIND, gpu, compute->serial);
}

static int resolve(const void *handle, target_t *target) {
    uint64_t number = (uint64_t)handle, kind = number >> 60, serial = number & ((1ULL << 52) - 1);
    unsigned index = number >> 52 & 0xFF;
    if (index >= S->gpu_count || !sees_gpu(&S->gpus[index])) return 0;
    *target = (target_t){&S->gpus[index], NULL, NULL};
    if (kind == DEVICE_KIND) return serial == S->driver_epoch ? DEVICE_KIND : 0;
    for (unsigned i = 0; i < MAX_INSTANCES; i++) {
        target->instance = &target->gpu->instances[i];
        if (!target->instance->serial) continue;
        if (kind == INSTANCE_KIND && target->instance->serial == serial) return INSTANCE_KIND;
        for (unsigned c = 0; c < MAX_INSTANCES; c++) {
            target->compute = &target->instance->compute[c];
            if (target->compute->serial == serial && (kind == MIG_KIND || kind == COMPUTE_KIND)) return (int)kind;
        }
    }
    return 0;
}

static nvmlReturn_t begin(const void *handle, int needs, int valid, int kinds, target_t *target) {
    nvmlReturn_t rc = api_begin(needs);
    if (rc != NVML_SUCCESS) return rc;
    int kind = resolve(handle, target);
    if (!valid || !kind || !(kinds & 1 << kind)) return api_end(NVML_ERROR_INVALID_ARGUMENT);
    if (needs & PROCESSES) {
        drop_dead(target->gpu->index);
        resolve(handle, target); /* a change moves the state */
    }
    if (needs & PARENT) target->instance = NULL, target->compute = NULL;
    if (target->gpu->lost && !(needs & LOST_TOO)) return api_end(NVML_ERROR_GPU_IS_LOST);
    if (needs & (WHOLE | NO_MIG) && target->compute) return api_end(NVML_ERROR_NOT_SUPPORTED);
    if (needs & NO_MIG && target->gpu->mig_current) return api_end(NVML_ERROR_NOT_SUPPORTED);
    return NVML_SUCCESS;
}

nvmlReturn_t device_begin(nvmlDevice_t handle, int needs, int valid, target_t *target) {
    return begin(handle, needs, valid, 1 << DEVICE_KIND | 1 << MIG_KIND, target);
}

nvmlReturn_t instance_begin(nvmlGpuInstance_t handle, int needs, int valid, target_t *target) {
    return begin(handle, needs, valid, 1 << INSTANCE_KIND, target);
}

nvmlReturn_t compute_begin(nvmlComputeInstance_t handle, int needs, int valid, target_t *target) {
    return begin(handle, needs, valid, 1 << COMPUTE_KIND, target);
}

nvmlReturn_t copy_text(char *to, unsigned length, const char *from) {
    if (strlen(from) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, from);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    nvmlReturn_t rc = driver_lock();
    if (rc != NVML_SUCCESS) return rc;
    if (!S->loaded || (S->nodes && access("/dev/nvidiactl", F_OK) != 0)) return api_end(NVML_ERROR_DRIVER_NOT_LOADED);
    if (!users || epoch != S->driver_epoch || session < 0) {
        state_change();
        session = session_open();
    }
    users = epoch == S->driver_epoch ? users + 1 : 1;
    epoch = S->driver_epoch;
    return api_end(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

EXPORT nvmlReturn_t nvmlShutdown(void) {
    if (!users) return NVML_ERROR_UNINITIALIZED;
    if (--users || session < 0) return NVML_SUCCESS;
    if (driver_lock() == NVML_SUCCESS) {
        /* After the driver was loaded anew, the slot may be somebody else's. */
        if (S->driver_epoch == epoch) {
            state_change();
            session_close(session);
        }
        state_unlock();
    }
    session = -1;
    return NVML_SUCCESS;
}

EXPORT const char *nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
        case NVML_SUCCESS: return "Success";
        case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
        case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
        case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
        case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
        case NVML_ERROR_NOT_FOUND: return "Not Found";
        case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
        case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
        case NVML_ERROR_TIMEOUT: return "Timeout";
        case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
        case NVML_ERROR_OPERATING_SYSTEM: return "Operating system call failed";
        case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
        case NVML_ERROR_IN_USE: return "In use by another client";
        case NVML_ERROR_MEMORY: return "Insufficient Memory";
        case NVML_ERROR_INSUFFICIENT_RESOURCES: return "Insufficient Resources";
        case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
        default: return "Unknown Error";
    }
}

static nvmlReturn_t text_call(char *to, unsigned length, const char *from) {
    nvmlReturn_t rc = api_begin(0);
    if (rc != NVML_SUCCESS) return rc;
    return api_end(to ? copy_text(to, length, from) : NVML_ERROR_INVALID_ARGUMENT);
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
    return text_call(version, length, DRIVER_VERSION);
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    return text_call(version, length, LIBRARY_VERSION);
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    if (!version) return NVML_ERROR_INVALID_ARGUMENT;
    *version = CUDA_VERSION;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length) {
    char path[40], text[256];
    if (!users) return NVML_ERROR_UNINITIALIZED;
    if (!name || !length) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (!file) return NVML_ERROR_NOT_FOUND;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    snprintf(name, length, "%s", text);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    nvmlReturn_t rc = api_begin(0);
    if (rc != NVML_SUCCESS) return rc;
    if (!count) return api_end(NVML_ERROR_INVALID_ARGUMENT);
    for (*count = 0; visible_gpu(*count);) ++*count;
    return api_end(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    nvmlReturn_t rc = api_begin(0);
    if (rc != NVML_SUCCESS) return rc;
    const gpu_t *gpu = visible_gpu(index);
    if (!gpu || !device) return api_end(NVML_ERROR_INVALID_ARGUMENT);
    *device = device_handle(gpu, NULL);
    return api_end(gpu->lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    nvmlReturn_t rc = api_begin(0);
    if (rc != NVML_SUCCESS) return rc;
    target_t t;
    if (!uuid || !device) return api_end(NVML_ERROR_INVALID_ARGUMENT);
    if (!strchr(uuid, '-') || find_device(uuid, &t) != 0) return api_end(NVML_ERROR_NOT_FOUND);
    *device = device_handle(t.gpu, t.compute);
    return api_end(t.gpu->lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device) {
    nvmlReturn_t rc = api_begin(0);
    if (rc != NVML_SUCCESS) return rc;
    unsigned domain, number, slot;
    if (!bus || !device || sscanf(bus, "%x:%x:%x", &domain, &number, &slot) != 3)
        return api_end(NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned i = 0; i < S->gpu_count; i++) {
        if (domain || slot || number != pci_bus(&S->gpus[i]) || !sees_gpu(&S->gpus[i])) continue;
        *device = device_handle(&S->gpus[i], NULL);
        return api_end(S->gpus[i].lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS);
    }
    return api_end(NVML_ERROR_NOT_FOUND);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByPciBusId_v2(bus, device);
}
