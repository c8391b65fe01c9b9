/* Instances, as the driver lets them be made and unmade. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "server.h"

const model_t *model_of(const gpu_t *gpu) { return &MODELS[gpu->model]; }

const profile_t *profile_of(const gpu_t *gpu, const instance_t *instance) {
    return &model_of(gpu)->profiles[instance->profile];
}

const profile_t *profile_by_id(const gpu_t *gpu, unsigned id) {
    for (unsigned i = 0; i < model_of(gpu)->profile_count; i++)
        if (model_of(gpu)->profiles[i].id == id) return &model_of(gpu)->profiles[i];
    return NULL;
}

const profile_t *profile_by_argument(const gpu_t *gpu, unsigned argument) {
    for (unsigned i = 0; i < model_of(gpu)->profile_count; i++)
        if (model_of(gpu)->profiles[i].argument == argument) return &model_of(gpu)->profiles[i];
    return NULL;
}

void make_uuid(char *uuid, const char *prefix) {
    unsigned char b[16] = {0};
    if (getrandom(b, sizeof b, 0) != sizeof b) return;
    b[6] = (unsigned char)((b[6] & 0x0F) | 0x50);
    b[8] = (unsigned char)((b[8] & 0x3F) | 0x80);
    int end = snprintf(uuid, UUID_SIZE, "%s", prefix);
    for (unsigned i = 0; i < sizeof b; i++) {
        const char *dash = i == 0 || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
        end += snprintf(uuid + end, UUID_SIZE - (size_t)end, "%s%02x", dash, b[i]);
    }
}

static unsigned mask(unsigned start, unsigned size) { return ((1u << size) - 1) << start; }

/* The starts at which one more instance of a profile fits now. */
unsigned free_starts(const gpu_t *gpu, const profile_t *profile, unsigned starts[MEMORY_SLICES]) {
    unsigned used = 0, compute = 0, same = 0, count = 0;
    for (unsigned i = 0; i < MAX_INSTANCES; i++) {
        const instance_t *other = &gpu->instances[i];
        if (!other->serial) continue;
        const profile_t *its = profile_of(gpu, other);
        used |= mask(other->start, its->memory);
        compute += its->compute;
        same += its == profile;
    }
    if (same >= profile->most || compute + profile->compute > 7) return 0;
    for (unsigned i = 0; i < profile->start_count; i++)
        if (!(used & mask(profile->starts[i], profile->memory))) starts[count++] = profile->starts[i];
    return count;
}

static int id_taken(const gpu_t *gpu, unsigned id) {
    for (unsigned i = 0; i < MAX_INSTANCES; i++)
        if (gpu->instances[i].serial && gpu->instances[i].id == id) return 1;
    return 0;
}

/* Ids follow the position, except those of the two halves: 1 and 2 in an order of their own. */
static unsigned instance_id(const gpu_t *gpu, const profile_t *profile, unsigned start) {
    if (profile->memory == 8) return 0;
    if (profile->memory == 2) return 3 + start / 2;
    if (profile->memory == 1) return 7 + start;
    unsigned first = profile->compute == 4 ? 1 : 2;
    return id_taken(gpu, first) ? 3 - first : first;
}

/* `start` -1: the driver chooses, small ones from the end, which is why the order of creation matters. */
nvmlReturn_t instance_create(gpu_t *gpu, const profile_t *profile, int start, instance_t **made) {
    unsigned starts[MEMORY_SLICES], count = free_starts(gpu, profile, starts);
    int legal = start < 0;
    for (unsigned i = 0; i < profile->start_count; i++) legal |= (int)profile->starts[i] == start;
    if (!legal) return NVML_ERROR_INVALID_ARGUMENT;
    int chosen = -1;
    for (unsigned i = 0; i < count; i++)
        if (start < 0 ? profile->memory < 4 || chosen < 0 : (int)starts[i] == start) chosen = (int)starts[i];
    if (chosen < 0) return NVML_ERROR_INSUFFICIENT_RESOURCES;
    advance(gpu);
    for (unsigned i = 0; i < MAX_INSTANCES; i++) {
        instance_t *instance = &gpu->instances[i];
        if (instance->serial) continue;
        memset(instance, 0, sizeof *instance);
        instance->id = instance_id(gpu, profile, (unsigned)chosen);
        instance->serial = S->next_serial++;
        instance->profile = (unsigned)(profile - model_of(gpu)->profiles);
        instance->start = (unsigned)chosen;
        *made = instance;
        make_nodes();
        event_add(EVENT_MIG_CONFIG, 0, gpu, NOT_APPLICABLE, NOT_APPLICABLE);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
}

nvmlReturn_t instance_destroy(gpu_t *gpu, instance_t *instance) {
    for (unsigned i = 0; i < MAX_INSTANCES; i++)
        if (instance->compute[i].serial) return NVML_ERROR_IN_USE;
    advance(gpu);
    memset(instance, 0, sizeof *instance);
    make_nodes();
    event_add(EVENT_MIG_CONFIG, 0, gpu, NOT_APPLICABLE, NOT_APPLICABLE);
    return NVML_SUCCESS;
}

/* Compute instance profiles are numbered as NVML's arguments are: by their slices. */
unsigned compute_slices(unsigned profile) {
    static const unsigned slices[] = {1, 2, 3, 4, 7};
    return profile < sizeof slices / sizeof *slices ? slices[profile] : 0;
}

unsigned compute_profile(unsigned slices) { return slices == 7 ? 4 : slices - 1; }

/* The starts, in compute slices, at which a compute instance fits now. */
unsigned compute_capacity(const instance_t *instance, const gpu_t *gpu, unsigned slices,
                          unsigned starts[MEMORY_SLICES]) {
    unsigned used = 0, count = 0, size = profile_of(gpu, instance)->compute;
    for (unsigned i = 0; i < MAX_INSTANCES; i++)
        if (instance->compute[i].serial) used |= mask(instance->compute[i].start, instance->compute[i].slices);
    for (unsigned start = 0; slices && start + slices <= size; start += slices)
        if (!(used & mask(start, slices))) starts[count++] = start;
    return count;
}

unsigned compute_sm(const gpu_t *gpu, const instance_t *instance, unsigned slices) {
    const profile_t *profile = profile_of(gpu, instance);
    if (slices == profile->compute) return profile->sm;
    return slices * model_of(gpu)->profiles[0].sm;
}

nvmlReturn_t compute_create(gpu_t *gpu, instance_t *instance, unsigned slices, int start, compute_t **made) {
    unsigned starts[MEMORY_SLICES], count = compute_capacity(instance, gpu, slices, starts);
    int chosen = -1;
    for (unsigned i = 0; i < count && chosen < 0; i++)
        if (start < 0 || (int)starts[i] == start) chosen = (int)starts[i];
    if (chosen < 0) return NVML_ERROR_INSUFFICIENT_RESOURCES;
    for (unsigned id = 0; id < MAX_INSTANCES; id++) {
        compute_t *compute = &instance->compute[id];
        if (compute->serial) continue;
        *compute = (compute_t){.serial = S->next_serial++, .id = id, .slices = slices, .start = (unsigned)chosen};
        make_uuid(compute->uuid, "MIG");
        *made = compute;
        make_nodes();
        event_add(EVENT_MIG_CONFIG, 0, gpu, instance->id, id);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
}

nvmlReturn_t compute_destroy(gpu_t *gpu, compute_t *compute) {
    for (unsigned i = 0; i < MAX_CLAIMS; i++)
        if (S->claims[i].kind && S->claims[i].compute == compute->serial) return NVML_ERROR_IN_USE;
    memset(compute, 0, sizeof *compute);
    make_nodes();
    event_add(EVENT_MIG_CONFIG, 0, gpu, NOT_APPLICABLE, NOT_APPLICABLE);
    return NVML_SUCCESS;
}

int has_instances(const gpu_t *gpu) {
    for (unsigned i = 0; i < MAX_INSTANCES; i++)
        if (gpu->instances[i].serial) return 1;
    return 0;
}

/* As a reset does: instances end, and what ran on the GPU with them. */
void lose_instances(gpu_t *gpu) {
    advance(gpu);
    for (unsigned i = 0; i < MAX_CLAIMS; i++)
        if (S->claims[i].gpu == gpu->index) S->claims[i].kind = FREE;
    memset(gpu->instances, 0, sizeof gpu->instances);
    make_nodes();
}

/* Ampere changes its mode by a reset, which needs the GPU for itself; until then the mode is pending. */
nvmlReturn_t mig_mode_set(gpu_t *gpu, unsigned mode, int own_session, nvmlReturn_t *activation) {
    *activation = NVML_SUCCESS;
    if (mode > 1) return NVML_ERROR_INVALID_ARGUMENT;
    if (has_instances(gpu) && !mode) return NVML_ERROR_IN_USE;
    gpu->mig_pending = mode;
    if (mode == gpu->mig_current) return NVML_SUCCESS;
    int reset = model_of(gpu)->architecture == AMPERE;
    int busy = 0;
    for (unsigned i = 0; i < MAX_CLAIMS; i++)
        busy |= S->claims[i].kind && S->claims[i].kind != HOLDER && S->claims[i].gpu == gpu->index;
    if (reset ? holders(gpu, own_session, NULL) > 0 : busy) {
        *activation = NVML_ERROR_IN_USE;
        return NVML_SUCCESS;
    }
    lose_instances(gpu);
    gpu->mig_current = mode;
    event_add(EVENT_MIG_CONFIG, 0, gpu, NOT_APPLICABLE, NOT_APPLICABLE);
    return NVML_SUCCESS;
}
