/* GPM: activity counters between two samples, on Hopper and newer. */
#include <math.h>
#include <stdlib.h>

#include "api.h"

enum { GRAPHICS_UTIL = 1, SM_UTIL = 2, SM_OCCUPANCY = 3, ANY_TENSOR_UTIL = 5, DRAM_BANDWIDTH = 10 };

struct gpm_sample {
    double when, activity;
};

static int supported(const gpu_t *gpu) { return model_of(gpu)->architecture >= HOPPER; }

EXPORT nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support) {
    DEVICE(PARENT, support != NULL)
    /* Unlike others, this structure's version is a bare number. */
    if (support->version != 1) rc = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    else support->isSupportedDevice = (unsigned)supported(t.gpu);
    END
}

EXPORT nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) {
    if (!sample) return NVML_ERROR_INVALID_ARGUMENT;
    *sample = calloc(1, sizeof **sample);
    return *sample ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

EXPORT nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    free(sample);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
    DEVICE(WHOLE | PROCESSES | WRITE, sample != NULL)
    if (!supported(t.gpu)) return api_end(NVML_ERROR_NOT_SUPPORTED);
    advance(t.gpu);
    *sample = (struct gpm_sample){t.gpu->measured, t.gpu->activity};
    END
}

EXPORT nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned instance, nvmlGpmSample_t sample) {
    DEVICE(WHOLE | PROCESSES | WRITE, sample != NULL)
    if (!supported(t.gpu)) return api_end(NVML_ERROR_NOT_SUPPORTED);
    advance(t.gpu);
    rc = NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned i = 0; i < MAX_INSTANCES; i++) {
        if (!t.gpu->instances[i].serial || t.gpu->instances[i].id != instance) continue;
        *sample = (struct gpm_sample){t.gpu->measured, t.gpu->instances[i].activity};
        rc = NVML_SUCCESS;
    }
    END
}

/* What a load of 100 percent is, metric by metric: the machine is never used fully in each respect. */
static double metric(unsigned id, double load) {
    switch (id) {
        case GRAPHICS_UTIL: return load;
        case SM_UTIL: return load * 0.9;
        case SM_OCCUPANCY: return load * 0.4;
        case ANY_TENSOR_UTIL: return load * 0.3;
        case DRAM_BANDWIDTH: return load * 0.5;
        default: return NAN;
    }
}

EXPORT nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get) {
    nvmlReturn_t rc = api_begin(0);
    if (rc != NVML_SUCCESS) return rc;
    if (!get || !get->sample1 || !get->sample2) return api_end(NVML_ERROR_INVALID_ARGUMENT);
    if (get->version != 1) return api_end(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    double seconds = get->sample2->when - get->sample1->when;
    if (seconds <= 0) return api_end(NVML_ERROR_INVALID_ARGUMENT);
    double load = (get->sample2->activity - get->sample1->activity) / seconds;
    for (unsigned i = 0; i < get->numMetrics; i++) {
        double value = metric(get->metrics[i].metricId, load);
        get->metrics[i].nvmlReturn = isnan(value) ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
        if (!isnan(value)) get->metrics[i].value = value;
    }
    return api_end(NVML_SUCCESS);
}
