/* Errors that a GPU counts, and processes that it serves. */
#include "api.h"

enum { VOLATILE = 0, CORRECTED = 0, UNCORRECTED = 1, DRAM = 2 /* also what NVML calls device memory */ };

EXPORT nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    DEVICE(PARENT, current && pending)
    *current = *pending = 1;
    END
}

static uint64_t errors(const gpu_t *gpu, unsigned type, unsigned counter) {
    return (counter == VOLATILE ? gpu->ecc_volatile : gpu->ecc_aggregate)[type];
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned type, unsigned counter,
                                                unsigned long long *count) {
    DEVICE(WHOLE, count && type <= UNCORRECTED && counter <= 1)
    *count = errors(t.gpu, type, counter);
    END
}

/* The simulated errors are all in the memory. A MIG device only answers for units of its own: volatile, uncorrected. */
EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, unsigned type, unsigned counter,
                                                    unsigned where, unsigned long long *count) {
    DEVICE(0, count && type <= UNCORRECTED && counter <= 1)
    if (t.compute && (where == DRAM || type != UNCORRECTED || counter != VOLATILE)) rc = NVML_ERROR_NOT_SUPPORTED;
    else *count = where == DRAM ? errors(t.gpu, type, counter) : 0;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, unsigned type, unsigned counter,
                                                   nvmlEccErrorCounts_t *counts) {
    DEVICE(WHOLE, counts && type <= UNCORRECTED && counter <= 1)
    *counts = (nvmlEccErrorCounts_t){.deviceMemory = errors(t.gpu, type, counter)};
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected,
                                              unsigned *pending, unsigned *failed) {
    DEVICE(WHOLE, corrected && uncorrected && pending && failed)
    if (has_instances(t.gpu)) {
        rc = NVML_ERROR_NOT_SUPPORTED;
    } else {
        *corrected = t.gpu->rows_corrected;
        *uncorrected = t.gpu->rows_uncorrected;
        *pending = t.gpu->rows_pending;
        *failed = t.gpu->rows_failed;
    }
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, unsigned policy, nvmlViolationTime_t *time) {
    DEVICE(WHOLE, time && policy < 8)
    *time = (nvmlViolationTime_t){.referenceTime = (unsigned long long)(state_now() * 1e9)};
    END
}

/* Gives process number `count` of a device to `put`, if there is room for it. */
typedef void put_process(void *list, unsigned index, const nvmlProcessInfo_t *process);

static void put_v1(void *list, unsigned index, const nvmlProcessInfo_t *process) {
    ((nvmlProcessInfo_v1_t *)list)[index] = (nvmlProcessInfo_v1_t){process->pid, process->usedGpuMemory};
}

static void put_v3(void *list, unsigned index, const nvmlProcessInfo_t *process) {
    ((nvmlProcessInfo_t *)list)[index] = *process;
}

static nvmlReturn_t processes(nvmlDevice_t device, unsigned kind, unsigned *count, void *list, put_process *put) {
    DEVICE(PROCESSES, count && (list || !*count))
    if (!t.compute && t.gpu->mig_current && !may_monitor()) return api_end(NVML_ERROR_NO_PERMISSION);
    unsigned room = *count, found = 0;
    for (unsigned i = 0; i < MAX_CLAIMS; i++) {
        const claim_t *claim = &S->claims[i];
        if (claim->kind != kind || !claim_is_on(claim, &t)) continue;
        nvmlProcessInfo_t process = {(unsigned)claim->pid, claim->memory, NOT_APPLICABLE, NOT_APPLICABLE};
        for (unsigned g = 0; g < MAX_INSTANCES; g++)
            for (unsigned c = 0; c < MAX_INSTANCES; c++)
                if (claim->compute && t.gpu->instances[g].compute[c].serial == claim->compute) {
                    process.gpuInstanceId = t.gpu->instances[g].id;
                    process.computeInstanceId = t.gpu->instances[g].compute[c].id;
                }
        if (found < room) put(list, found, &process);
        found++;
    }
    *count = found;
    rc = found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
    END
}

#define PROCESS_LIST(function, kind, type, put)                                              \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned *count, type *list) {         \
        return processes(device, kind, count, list, put);                                    \
    }
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses, COMPUTE, nvmlProcessInfo_v1_t, put_v1)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE, nvmlProcessInfo_t, put_v3)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE, nvmlProcessInfo_t, put_v3)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses, GRAPHICS, nvmlProcessInfo_v1_t, put_v1)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS, nvmlProcessInfo_t, put_v3)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS, nvmlProcessInfo_t, put_v3)
/* There is no multi-process service here: nothing has kind FREE and is on a device. */
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses, FREE, nvmlProcessInfo_v1_t, put_v1)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, FREE, nvmlProcessInfo_t, put_v3)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, FREE, nvmlProcessInfo_t, put_v3)

EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
                                                    unsigned *count, unsigned long long since) {
    DEVICE(NO_MIG | PROCESSES, count && (samples || !*count))
    unsigned room = *count, found = 0;
    double now = state_now();
    unsigned long long stamp = (unsigned long long)(now * 1e6);
    if (stamp <= since) return api_end(NVML_ERROR_NOT_FOUND);
    for (unsigned i = 0; i < MAX_CLAIMS; i++) {
        const claim_t *claim = &S->claims[i];
        if ((claim->kind != COMPUTE && claim->kind != GRAPHICS) || !claim_is_on(claim, &t)) continue;
        unsigned load = (unsigned)load_at(claim, now);
        if (found < room)
            samples[found] = (nvmlProcessUtilizationSample_t){(unsigned)claim->pid, stamp, load, load / 2, 0, 0};
        found++;
    }
    *count = found;
    rc = !found ? NVML_ERROR_NOT_FOUND : found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
    END
}
