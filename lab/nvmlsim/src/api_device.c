/* What a device is and how it does. */
#include <limits.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "api.h"

static const uint64_t MIB = 1ULL << 20;
enum {
    FIELD_TOTAL_ENERGY = 83,
    FIELD_POWER_AVERAGE = 185,
    FIELD_POWER_INSTANT = 186,
    CLOCK_SM = 1,
    CLOCK_MEMORY = 2,
    IDLE_CLOCK = 210,
    REASON_IDLE = 1,
    BRAND_NVIDIA = 14,
};

static uint64_t wall_microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    DEVICE(0, name != NULL)
    char text[96];
    const model_t *model = model_of(t.gpu);
    if (!t.compute) {
        snprintf(text, sizeof text, "%s", model->name);
    } else {
        const profile_t *profile = profile_of(t.gpu, t.instance);
        char part[16] = "";
        if (t.compute->slices != profile->compute) snprintf(part, sizeof part, "%uc.", t.compute->slices);
        snprintf(text, sizeof text, "%s MIG %s%s", model->name, part, profile->name);
    }
    rc = copy_text(name, length, text);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    DEVICE(0, uuid != NULL)
    rc = copy_text(uuid, length, t.compute ? t.compute->uuid : t.gpu->uuid);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned length) {
    DEVICE(WHOLE, serial != NULL)
    rc = copy_text(serial, length, t.gpu->board);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    DEVICE(0, index != NULL)
    target_t other;
    if (t.compute) {
        for (*index = 0; *index < MAX_INSTANCES * MAX_INSTANCES; ++*index)
            if (visible_compute(t.gpu, *index, &other) == 0 && other.compute == t.compute) break;
    } else {
        for (*index = 0; visible_gpu(*index) != t.gpu;) ++*index;
    }
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor) {
    DEVICE(WHOLE, minor != NULL)
    *minor = t.gpu->index;
    END
}

unsigned pci_bus(const gpu_t *gpu) { return 7 + gpu->index * 0x10; }

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    DEVICE(WHOLE | LOST_TOO, pci != NULL)
    memset(pci, 0, sizeof *pci);
    pci->bus = pci_bus(t.gpu);
    pci->pciDeviceId = model_of(t.gpu)->pci_device;
    pci->pciSubSystemId = model_of(t.gpu)->pci_subsystem;
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:00.0", 0u, pci->bus & 0xFF);
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:00.0", 0u, pci->bus);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return nvmlDeviceGetPciInfo_v3(device, pci);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return nvmlDeviceGetPciInfo_v3(device, pci);
}

/* The aggregate over instances tells one user about others: it takes a privilege. */
static nvmlReturn_t memory_permitted(const target_t *t) {
    return !t->compute && t->gpu->mig_current && !may_monitor() ? NVML_ERROR_NO_PERMISSION : NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    DEVICE(PROCESSES, memory != NULL)
    rc = memory_permitted(&t);
    if (rc == NVML_SUCCESS) {
        memory->total = memory_total(&t);
        memory->used = memory_used(&t) + memory_reserved(&t);
        memory->free = memory->total - memory->used;
    }
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    DEVICE(PROCESSES, memory != NULL)
    rc = memory_permitted(&t);
    if (memory->version != VERSION(nvmlMemory_v2_t, 2)) rc = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (rc == NVML_SUCCESS) {
        memory->total = memory_total(&t);
        memory->reserved = memory_reserved(&t);
        memory->used = memory_used(&t);
        memory->free = memory->total - memory->used - memory->reserved;
    }
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory) {
    DEVICE(0, memory != NULL)
    memory->total = t.compute ? 16384 * MIB * profile_of(t.gpu, t.instance)->memory : 131072 * MIB;
    memory->used = 1 * MIB;
    memory->free = memory->total - memory->used;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    DEVICE(NO_MIG | PROCESSES, rates != NULL)
    rates->gpu = (unsigned)device_load(&t, state_now());
    rates->memory = rates->gpu / 2;
    END
}

static nvmlReturn_t no_media(nvmlDevice_t device, unsigned *utilization, unsigned *period) {
    DEVICE(NO_MIG, utilization && period)
    *utilization = 0;
    *period = 1000000; /* microseconds */
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned *utilization, unsigned *period) {
    return no_media(device, utilization, period);
}

EXPORT nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned *utilization, unsigned *period) {
    return no_media(device, utilization, period);
}

/* GA100 answers with the power of this moment, later ones with the mean of the last second. */
EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts) {
    DEVICE(WHOLE | PROCESSES, milliwatts != NULL)
    double now = state_now();
    int instant = model_of(t.gpu)->architecture == AMPERE;
    *milliwatts = (unsigned)(1000 * (instant ? device_power(t.gpu, now) : average_power(t.gpu, now)));
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules) {
    DEVICE(WHOLE | PROCESSES | WRITE, millijoules != NULL)
    advance(t.gpu);
    *millijoules = (unsigned long long)t.gpu->energy;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    DEVICE(PROCESSES | WRITE, values && count > 0)
    double now = state_now();
    advance(t.gpu);
    for (int i = 0; i < count; i++) {
        nvmlFieldValue_t *value = &values[i];
        int average_known = model_of(t.gpu)->architecture != AMPERE;
        value->nvmlReturn = t.compute ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
        value->timestamp = (long long)wall_microseconds();
        value->latencyUsec = 0;
        value->valueType = VALUE_UNSIGNED;
        value->value.ullVal = 0;
        if (t.compute) continue;
        if (value->fieldId == FIELD_TOTAL_ENERGY) {
            value->valueType = VALUE_UNSIGNED_LONG_LONG;
            value->value.ullVal = (unsigned long long)t.gpu->energy;
        } else if (value->fieldId == FIELD_POWER_INSTANT) {
            value->value.uiVal = (unsigned)(1000 * device_power(t.gpu, now));
        } else if (value->fieldId == FIELD_POWER_AVERAGE && average_known) {
            value->value.uiVal = (unsigned)(1000 * average_power(t.gpu, now));
        } else {
            value->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
        }
    }
    END
}

static unsigned temperature(const gpu_t *gpu) {
    const model_t *model = model_of(gpu);
    double above = device_power(gpu, state_now()) - model->idle_watts;
    return gpu->temperature ? (unsigned)gpu->temperature
                            : 31 + (unsigned)(34 * above / (model->limit_watts - model->idle_watts));
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *celsius) {
    DEVICE(WHOLE | PROCESSES, celsius && sensor == 0)
    *celsius = temperature(t.gpu);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *value) {
    DEVICE(WHOLE | PROCESSES, value && value->sensorType == 0)
    if (value->version != VERSION(nvmlTemperature_t, 1)) rc = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    else value->temperature = (int)temperature(t.gpu);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned type, unsigned *celsius) {
    static const unsigned thresholds[] = {92, 89, 95, 85}; /* shutdown, slowdown, memory, GPU */
    DEVICE(WHOLE, celsius != NULL)
    if (type >= sizeof thresholds / sizeof *thresholds) rc = NVML_ERROR_INVALID_ARGUMENT;
    else *celsius = thresholds[type];
    END
}

static int is_busy(const gpu_t *gpu) { return device_power(gpu, state_now()) > model_of(gpu)->idle_watts; }

static nvmlReturn_t clock_of(const target_t *t, unsigned type, int busy, unsigned *mhz) {
    const model_t *model = model_of(t->gpu);
    if (type > 3) return NVML_ERROR_INVALID_ARGUMENT;
    *mhz = type == CLOCK_MEMORY ? model->memory_clock : busy ? model->sm_clock : IDLE_CLOCK;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned type, unsigned *mhz) {
    DEVICE(WHOLE | PROCESSES, mhz != NULL)
    rc = clock_of(&t, type, is_busy(t.gpu), mhz);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, unsigned type, unsigned *mhz) {
    DEVICE(WHOLE, mhz != NULL)
    rc = clock_of(&t, type, 1, mhz);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    DEVICE(WHOLE | PROCESSES, reasons != NULL)
    *reasons = t.gpu->clock_reasons | (is_busy(t.gpu) ? 0 : REASON_IDLE);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}

/* Answers that are the same for each GPU of a model. */
#define CONSTANT(function, needs, value)                                       \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned *answer) {      \
        DEVICE(needs, answer != NULL)                                          \
        *answer = (value);                                                     \
        END                                                                    \
    }
CONSTANT(nvmlDeviceGetArchitecture, PARENT, model_of(t.gpu)->architecture)
CONSTANT(nvmlDeviceGetBrand, PARENT, BRAND_NVIDIA)
CONSTANT(nvmlDeviceGetNumGpuCores, WHOLE, model_of(t.gpu)->cores)
CONSTANT(nvmlDeviceGetMemoryBusWidth, WHOLE, model_of(t.gpu)->bus_width)
CONSTANT(nvmlDeviceGetPowerManagementMode, WHOLE, 1)
CONSTANT(nvmlDeviceGetPowerManagementLimit, WHOLE, model_of(t.gpu)->limit_watts * 1000)
CONSTANT(nvmlDeviceGetPowerManagementDefaultLimit, WHOLE, model_of(t.gpu)->limit_watts * 1000)
CONSTANT(nvmlDeviceGetEnforcedPowerLimit, WHOLE, model_of(t.gpu)->limit_watts * 1000)
CONSTANT(nvmlDeviceGetPersistenceMode, PARENT, 1)
CONSTANT(nvmlDeviceGetPerformanceState, WHOLE, 0)
CONSTANT(nvmlDeviceGetComputeMode, PARENT, 0)
CONSTANT(nvmlDeviceGetDisplayMode, WHOLE, 0)
CONSTANT(nvmlDeviceGetDisplayActive, WHOLE, 0)
CONSTANT(nvmlDeviceGetMaxPcieLinkGeneration, WHOLE, model_of(t.gpu)->pcie_generation)
CONSTANT(nvmlDeviceGetCurrPcieLinkGeneration, WHOLE, model_of(t.gpu)->pcie_generation)
CONSTANT(nvmlDeviceGetMaxPcieLinkWidth, WHOLE, 16)
CONSTANT(nvmlDeviceGetCurrPcieLinkWidth, WHOLE, t.gpu->pcie_width)
CONSTANT(nvmlDeviceGetPcieReplayCounter, WHOLE, 0)
CONSTANT(nvmlDeviceIsMigDeviceHandle, 0, t.compute != NULL)

EXPORT nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, unsigned counter, unsigned *value) {
    DEVICE(WHOLE, value && counter < 2)
    *value = 0;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned *least, unsigned *most) {
    DEVICE(WHOLE, least && most)
    *most = model_of(t.gpu)->limit_watts * 1000;
    *least = *most / 4;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    DEVICE(PARENT, major && minor)
    *major = (int)model_of(t.gpu)->capability[0];
    *minor = (int)model_of(t.gpu)->capability[1];
    END
}
