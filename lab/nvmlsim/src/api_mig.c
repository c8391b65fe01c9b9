/* MIG: mode, devices, GPU instances and compute instances. */
#include <string.h>

#include "api.h"

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    DEVICE(WHOLE, current && pending)
    *current = t.gpu->mig_current;
    *pending = t.gpu->mig_pending;
    END
}

EXPORT nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode, nvmlReturn_t *activation) {
    DEVICE(WHOLE | PROCESSES | WRITE, activation && mode <= 1)
    rc = may_configure() ? mig_mode_set(t.gpu, mode, api_session(), activation) : NVML_ERROR_NO_PERMISSION;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count) {
    DEVICE(WHOLE, count != NULL)
    *count = t.gpu->mig_current ? MAX_INSTANCES - 1 : 0;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *mig) {
    DEVICE(WHOLE, mig != NULL)
    target_t found;
    if (!t.gpu->mig_current || visible_compute(t.gpu, index, &found) != 0) rc = NVML_ERROR_NOT_FOUND;
    else *mig = device_handle(t.gpu, found.compute);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t device, nvmlDevice_t *parent) {
    DEVICE(0, parent != NULL)
    if (!t.compute) rc = NVML_ERROR_NOT_SUPPORTED;
    else *parent = device_handle(t.gpu, NULL);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id) {
    DEVICE(0, id != NULL)
    if (!t.compute) rc = NVML_ERROR_NOT_SUPPORTED;
    else *id = t.instance->id;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id) {
    DEVICE(0, id != NULL)
    if (!t.compute) rc = NVML_ERROR_NOT_SUPPORTED;
    else *id = t.compute->id;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *a) {
    DEVICE(0, a != NULL)
    if (!t.compute) return api_end(NVML_ERROR_NOT_SUPPORTED);
    const profile_t *p = profile_of(t.gpu, t.instance);
    *a = (nvmlDeviceAttributes_t){
        .multiprocessorCount = compute_sm(t.gpu, t.instance, t.compute->slices),
        .sharedCopyEngineCount = p->copy,
        .sharedDecoderCount = p->decoder,
        .sharedJpegCount = p->jpeg,
        .sharedOfaCount = p->ofa,
        .gpuInstanceSliceCount = p->compute,
        .computeInstanceSliceCount = t.compute->slices,
        .memorySizeMB = p->memory_mib,
    };
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    return nvmlDeviceGetAttributes_v2(device, attributes);
}

/* GPU instances exist only in MIG mode. */
static nvmlReturn_t mig_begin(nvmlDevice_t device, int needs, int valid, target_t *t) {
    nvmlReturn_t rc = device_begin(device, needs | WHOLE, valid, t);
    if (rc == NVML_SUCCESS && !t->gpu->mig_current) return api_end(NVML_ERROR_NOT_SUPPORTED);
    return rc;
}

static void describe(const profile_t *p, nvmlGpuInstanceProfileInfo_v2_t *info) {
    *info = (nvmlGpuInstanceProfileInfo_v2_t){
        .version = info->version,
        .id = p->id,
        .sliceCount = p->compute,
        .instanceCount = p->most,
        .multiprocessorCount = p->sm,
        .copyEngineCount = p->copy,
        .decoderCount = p->decoder,
        .jpegCount = p->jpeg,
        .ofaCount = p->ofa,
        .memorySizeMB = p->memory_mib,
    };
    snprintf(info->name, sizeof info->name, "MIG %s", p->name);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned profile,
                                                         nvmlGpuInstanceProfileInfo_v2_t *info) {
    target_t t;
    nvmlReturn_t rc = mig_begin(device, 0, info != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    const profile_t *p = profile_by_argument(t.gpu, profile);
    if (info->version != VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2)) rc = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    else if (!p) rc = NVML_ERROR_NOT_SUPPORTED;
    else describe(p, info);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned profile,
                                                        nvmlGpuInstanceProfileInfo_t *info) {
    nvmlGpuInstanceProfileInfo_v2_t full = {.version = VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2)};
    nvmlReturn_t rc = info ? nvmlDeviceGetGpuInstanceProfileInfoV(device, profile, &full) : NVML_ERROR_INVALID_ARGUMENT;
    if (rc == NVML_SUCCESS)
        *info = (nvmlGpuInstanceProfileInfo_t){
            full.id, full.isP2pSupported, full.sliceCount, full.instanceCount, full.multiprocessorCount,
            full.copyEngineCount, full.decoderCount, full.encoderCount, full.jpegCount, full.ofaCount,
            full.memorySizeMB,
        };
    return rc;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id,
                                                                  nvmlPlacement_t *placements, unsigned *count) {
    target_t t;
    nvmlReturn_t rc = mig_begin(device, 0, count != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    const profile_t *p = profile_by_id(t.gpu, id);
    if (!p) return api_end(NVML_ERROR_NOT_SUPPORTED);
    /* All that the profile has, whether free or not. Without a list only their number is asked for. */
    if (placements && *count < p->start_count) rc = NVML_ERROR_INSUFFICIENT_SIZE;
    else if (placements)
        for (unsigned i = 0; i < p->start_count; i++) placements[i] = (nvmlPlacement_t){p->starts[i], p->memory};
    *count = p->start_count;
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, unsigned id,
                                                               nvmlPlacement_t *placements, unsigned *count) {
    return nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, id, placements, count);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned id, unsigned *count) {
    target_t t;
    nvmlReturn_t rc = mig_begin(device, 0, count != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    const profile_t *p = profile_by_id(t.gpu, id);
    if (!p) return api_end(NVML_ERROR_NOT_SUPPORTED);
    /* As many as could be made one after the other on what is free now. */
    gpu_t copy = *t.gpu;
    unsigned starts[MEMORY_SLICES];
    for (*count = 0; free_starts(&copy, p, starts) > 0; ++*count)
        for (unsigned i = 0; i < MAX_INSTANCES; i++)
            if (!copy.instances[i].serial) {
                copy.instances[i] =
                    (instance_t){.serial = 1, .profile = (unsigned)(p - model_of(t.gpu)->profiles), .start = starts[0]};
                break;
            }
    END
}

static nvmlReturn_t create(nvmlDevice_t device, unsigned id, const nvmlPlacement_t *placement,
                           nvmlGpuInstance_t *made) {
    target_t t;
    nvmlReturn_t rc = mig_begin(device, PROCESSES | WRITE, made != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    const profile_t *p = profile_by_id(t.gpu, id);
    instance_t *instance;
    if (!may_configure()) rc = NVML_ERROR_NO_PERMISSION;
    else if (!p) rc = NVML_ERROR_NOT_SUPPORTED;
    else if (placement && placement->size != p->memory) rc = NVML_ERROR_INVALID_ARGUMENT;
    else rc = instance_create(t.gpu, p, placement ? (int)placement->start : -1, &instance);
    if (rc == NVML_SUCCESS) *made = instance_handle(t.gpu, instance);
    END
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *made) {
    return create(device, id, NULL, made);
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned id,
                                                             const nvmlPlacement_t *placement,
                                                             nvmlGpuInstance_t *made) {
    return placement ? create(device, id, placement, made) : NVML_ERROR_INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *list,
                                              unsigned *count) {
    target_t t;
    nvmlReturn_t rc = mig_begin(device, 0, list && count, &t);
    if (rc != NVML_SUCCESS) return rc;
    if (!profile_by_id(t.gpu, id)) return api_end(NVML_ERROR_NOT_SUPPORTED);
    if (!may_monitor()) return api_end(NVML_ERROR_NO_PERMISSION);
    *count = 0;
    for (unsigned i = 0; i < MAX_INSTANCES; i++)
        if (t.gpu->instances[i].serial && profile_of(t.gpu, &t.gpu->instances[i])->id == id)
            list[(*count)++] = instance_handle(t.gpu, &t.gpu->instances[i]);
    END
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *found) {
    target_t t;
    nvmlReturn_t rc = mig_begin(device, 0, found != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    rc = NVML_ERROR_NOT_FOUND;
    for (unsigned i = 0; i < MAX_INSTANCES; i++) {
        instance_t *instance = &t.gpu->instances[i];
        if (!instance->serial || instance->id != id) continue;
        int seen = may_monitor();
        for (unsigned c = 0; c < MAX_INSTANCES; c++)
            seen |= instance->compute[c].serial && sees_compute(t.gpu, instance, &instance->compute[c]);
        rc = seen ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
        if (seen) *found = instance_handle(t.gpu, instance);
    }
    END
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t handle, nvmlGpuInstanceInfo_t *info) {
    target_t t;
    nvmlReturn_t rc = instance_begin(handle, 0, info != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    const profile_t *p = profile_of(t.gpu, t.instance);
    *info = (nvmlGpuInstanceInfo_t){device_handle(t.gpu, NULL), t.instance->id, p->id, {t.instance->start, p->memory}};
    END
}

EXPORT nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t handle) {
    target_t t;
    nvmlReturn_t rc = instance_begin(handle, WRITE, 1, &t);
    if (rc != NVML_SUCCESS) return rc;
    rc = may_configure() ? instance_destroy(t.gpu, t.instance) : NVML_ERROR_NO_PERMISSION;
    END
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t handle, unsigned profile,
                                                                  unsigned engine,
                                                                  nvmlComputeInstanceProfileInfo_v2_t *info) {
    target_t t;
    nvmlReturn_t rc = instance_begin(handle, 0, info && engine == 0, &t);
    if (rc != NVML_SUCCESS) return rc;
    const profile_t *p = profile_of(t.gpu, t.instance);
    unsigned slices = compute_slices(profile);
    if (info->version != VERSION(nvmlComputeInstanceProfileInfo_v2_t, 2))
        return api_end(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    if (!slices || slices > p->compute) return api_end(NVML_ERROR_NOT_SUPPORTED);
    *info = (nvmlComputeInstanceProfileInfo_v2_t){
        .version = info->version,
        .id = profile,
        .sliceCount = slices,
        .instanceCount = p->compute / slices,
        .multiprocessorCount = compute_sm(t.gpu, t.instance, slices),
        .sharedCopyEngineCount = p->copy,
        .sharedDecoderCount = p->decoder,
        .sharedJpegCount = p->jpeg,
        .sharedOfaCount = p->ofa,
    };
    char part[16] = "";
    if (slices != p->compute) snprintf(part, sizeof part, "%uc.", slices);
    snprintf(info->name, sizeof info->name, "MIG %s%s", part, p->name);
    END
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t handle, unsigned profile,
                                                                 unsigned engine,
                                                                 nvmlComputeInstanceProfileInfo_t *info) {
    nvmlComputeInstanceProfileInfo_v2_t full = {.version = VERSION(nvmlComputeInstanceProfileInfo_v2_t, 2)};
    nvmlReturn_t rc = info ? nvmlGpuInstanceGetComputeInstanceProfileInfoV(handle, profile, engine, &full)
                           : NVML_ERROR_INVALID_ARGUMENT;
    if (rc == NVML_SUCCESS)
        *info = (nvmlComputeInstanceProfileInfo_t){
            full.id, full.sliceCount, full.instanceCount, full.multiprocessorCount, full.sharedCopyEngineCount,
            full.sharedDecoderCount, full.sharedEncoderCount, full.sharedJpegCount, full.sharedOfaCount,
        };
    return rc;
}

/* The places of a profile in an instance: all of them, or those that are free. */
static unsigned compute_places(const target_t *t, unsigned profile, int only_free, unsigned starts[MEMORY_SLICES]) {
    instance_t empty = {.profile = t->instance->profile};
    unsigned slices = compute_slices(profile);
    return slices ? compute_capacity(only_free ? t->instance : &empty, t->gpu, slices, starts) : 0;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t handle, unsigned profile,
                                                                        nvmlPlacement_t *placements, unsigned *count) {
    target_t t;
    nvmlReturn_t rc = instance_begin(handle, 0, count != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    unsigned starts[MEMORY_SLICES], places = compute_places(&t, profile, 0, starts);
    if (!places) return api_end(NVML_ERROR_NOT_SUPPORTED);
    if (placements && *count < places) rc = NVML_ERROR_INSUFFICIENT_SIZE;
    else if (placements)
        for (unsigned i = 0; i < places; i++) placements[i] = (nvmlPlacement_t){starts[i], compute_slices(profile)};
    *count = places;
    END
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t handle, unsigned profile,
                                                                       unsigned *count) {
    target_t t;
    nvmlReturn_t rc = instance_begin(handle, 0, count != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    unsigned starts[MEMORY_SLICES];
    if (!compute_places(&t, profile, 0, starts)) rc = NVML_ERROR_NOT_SUPPORTED;
    else *count = compute_places(&t, profile, 1, starts);
    END
}

static nvmlReturn_t compute_make(nvmlGpuInstance_t handle, unsigned profile, const nvmlPlacement_t *placement,
                                 nvmlComputeInstance_t *made) {
    target_t t;
    nvmlReturn_t rc = instance_begin(handle, WRITE, made != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    unsigned starts[MEMORY_SLICES], slices = compute_slices(profile);
    compute_t *compute;
    if (!may_configure()) rc = NVML_ERROR_NO_PERMISSION;
    else if (!compute_places(&t, profile, 0, starts)) rc = NVML_ERROR_NOT_SUPPORTED;
    else if (placement && placement->size != slices) rc = NVML_ERROR_INVALID_ARGUMENT;
    else rc = compute_create(t.gpu, t.instance, slices, placement ? (int)placement->start : -1, &compute);
    if (rc == NVML_SUCCESS) *made = compute_handle(t.gpu, compute);
    END
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t handle, unsigned profile,
                                                         nvmlComputeInstance_t *made) {
    return compute_make(handle, profile, NULL, made);
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t handle, unsigned profile,
                                                                      const nvmlPlacement_t *placement,
                                                                      nvmlComputeInstance_t *made) {
    return placement ? compute_make(handle, profile, placement, made) : NVML_ERROR_INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t handle, unsigned profile,
                                                       nvmlComputeInstance_t *list, unsigned *count) {
    target_t t;
    nvmlReturn_t rc = instance_begin(handle, 0, list && count, &t);
    if (rc != NVML_SUCCESS) return rc;
    unsigned starts[MEMORY_SLICES];
    if (!compute_places(&t, profile, 0, starts)) return api_end(NVML_ERROR_NOT_SUPPORTED);
    *count = 0;
    for (unsigned i = 0; i < MAX_INSTANCES; i++)
        if (t.instance->compute[i].serial && t.instance->compute[i].slices == compute_slices(profile))
            list[(*count)++] = compute_handle(t.gpu, &t.instance->compute[i]);
    END
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t handle, unsigned id,
                                                          nvmlComputeInstance_t *found) {
    target_t t;
    nvmlReturn_t rc = instance_begin(handle, 0, found != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    if (id >= MAX_INSTANCES || !t.instance->compute[id].serial) rc = NVML_ERROR_NOT_FOUND;
    else *found = compute_handle(t.gpu, &t.instance->compute[id]);
    END
}

EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t handle, nvmlComputeInstanceInfo_t *info) {
    target_t t;
    nvmlReturn_t rc = compute_begin(handle, 0, info != NULL, &t);
    if (rc != NVML_SUCCESS) return rc;
    *info = (nvmlComputeInstanceInfo_t){
        .device = device_handle(t.gpu, NULL),
        .gpuInstance = instance_handle(t.gpu, t.instance),
        .id = t.compute->id,
        .profileId = compute_profile(t.compute->slices),
        .placement = {t.compute->start, t.compute->slices},
    };
    END
}

EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t handle, nvmlComputeInstanceInfo_t *info) {
    return nvmlComputeInstanceGetInfo_v2(handle, info);
}

EXPORT nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t handle) {
    target_t t;
    nvmlReturn_t rc = compute_begin(handle, PROCESSES | WRITE, 1, &t);
    if (rc != NVML_SUCCESS) return rc;
    rc = may_configure() ? compute_destroy(t.gpu, t.compute) : NVML_ERROR_NO_PERMISSION;
    END
}
