/* What happens to a server from outside: hardware put in, processes, faults, reboots. Used by the command and by tests.
 *
 * Each function answers with an NVML return code; nvmlsim_error() says in words what was wrong. */
#include "control.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

static _Thread_local char message[256];

EXPORT const char *nvmlsim_error(void) { return message; }

static nvmlReturn_t fail(nvmlReturn_t rc, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    return rc;
}

static nvmlReturn_t open_state(int change) {
    nvmlReturn_t rc = state_lock();
    if (rc == NVML_ERROR_DRIVER_NOT_LOADED) return fail(rc, "%s: no such server: create one first", state_path());
    if (rc == NVML_ERROR_LIB_RM_VERSION_MISMATCH)
        return fail(rc, "%s: made by another build: create it anew", state_path());
    if (rc != NVML_SUCCESS) return fail(rc, "%s: cannot be used", state_path());
    if (change) state_change();
    return rc;
}

static nvmlReturn_t done(nvmlReturn_t rc) {
    if (rc == NVML_SUCCESS) state_unlock();
    else state_abort();
    return rc;
}

static nvmlReturn_t device_of(const char *device, target_t *target) {
    if (find_device(device, target) == 0) return NVML_SUCCESS;
    return fail(NVML_ERROR_NOT_FOUND, "%s: no such device", device);
}

static nvmlReturn_t gpu_of(unsigned index, gpu_t **gpu) {
    *gpu = &S->gpus[index % MAX_GPUS];
    if (index < S->gpu_count) return NVML_SUCCESS;
    return fail(NVML_ERROR_NOT_FOUND, "%u: no such GPU, there are %u", index, S->gpu_count);
}

EXPORT nvmlReturn_t nvmlsim_create(int nodes) {
    nvmlReturn_t rc = state_create(state_path());
    if (rc != NVML_SUCCESS) return fail(rc, "%s: cannot be written", state_path());
    if ((rc = open_state(1)) != NVML_SUCCESS) return rc;
    S->nodes = nodes != 0;
    return done(rc);
}

EXPORT nvmlReturn_t nvmlsim_add_gpu(const char *model) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    unsigned number = 0;
    while (number < MODEL_COUNT && strcmp(MODELS[number].key, model)) number++;
    if (number == MODEL_COUNT) return done(fail(NVML_ERROR_INVALID_ARGUMENT, "%s: no such model", model));
    if (S->gpu_count == MAX_GPUS)
        return done(fail(NVML_ERROR_INSUFFICIENT_RESOURCES, "a server has at most %d GPUs", MAX_GPUS));
    gpu_t *gpu = &S->gpus[S->gpu_count];
    *gpu = (gpu_t){.model = number, .index = S->gpu_count++, .pcie_width = 16, .measured = state_now()};
    make_uuid(gpu->uuid, "GPU");
    snprintf(gpu->board, sizeof gpu->board, "1560223%06u", gpu->index + 1);
    make_nodes();
    return done(rc);
}

EXPORT nvmlReturn_t nvmlsim_set_mig(unsigned index, unsigned mode) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    gpu_t *gpu;
    if ((rc = gpu_of(index, &gpu)) != NVML_SUCCESS) return done(rc);
    lose_instances(gpu);
    gpu->mig_current = gpu->mig_pending = mode != 0;
    return done(rc);
}

EXPORT nvmlReturn_t nvmlsim_add_instance(unsigned index, const char *profile, int start) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    gpu_t *gpu;
    if ((rc = gpu_of(index, &gpu)) != NVML_SUCCESS) return done(rc);
    const profile_t *found = NULL;
    for (unsigned i = 0; i < model_of(gpu)->profile_count; i++)
        if (!strcmp(model_of(gpu)->profiles[i].name, profile)) found = &model_of(gpu)->profiles[i];
    if (!found) return done(fail(NVML_ERROR_INVALID_ARGUMENT, "%s: not a profile of %s", profile, model_of(gpu)->key));
    if (!gpu->mig_current) return done(fail(NVML_ERROR_NOT_SUPPORTED, "GPU %u is not in MIG mode", index));
    instance_t *instance;
    compute_t *compute;
    rc = instance_create(gpu, found, start, &instance);
    if (rc == NVML_SUCCESS) rc = compute_create(gpu, instance, found->compute, 0, &compute);
    if (rc != NVML_SUCCESS) return done(fail(rc, "GPU %u: %s does not fit there", index, profile));
    return done(rc);
}

static nvmlReturn_t check_load(const load_t *load) {
    if (load->count < 1 || load->count > MAX_POINTS)
        return fail(NVML_ERROR_INVALID_ARGUMENT, "a load has 1 to %d points", MAX_POINTS);
    double before = -1;
    for (unsigned i = 0; i < load->count; i++) {
        if (!(load->at[i] > before) || !isfinite(load->at[i]) || (i == 0 && load->at[0] != 0))
            return fail(NVML_ERROR_INVALID_ARGUMENT, "the times of a load begin with 0 and rise");
        if (!(load->percent[i] >= 0 && load->percent[i] <= 100))
            return fail(NVML_ERROR_INVALID_ARGUMENT, "%g: a load is 0 to 100 percent", load->percent[i]);
        before = load->at[i];
    }
    /* A loop has to be longer than what it repeats, and its steps countable. */
    if (load->loop && !(load->loop > before && load->loop >= 0.001 && isfinite(load->loop)))
        return fail(NVML_ERROR_INVALID_ARGUMENT, "%g: a load is repeated after its last point", load->loop);
    return NVML_SUCCESS;
}

static void set_load(claim_t *claim, const load_t *load) {
    claim->points = load->count;
    claim->loop = load->loop;
    for (unsigned i = 0; i < load->count; i++) {
        claim->curve[i].at = (float)load->at[i];
        claim->curve[i].load = (float)load->percent[i];
    }
}

/* `pid` 0: the calling process itself, which keeps the claim until it ends. */
static nvmlReturn_t attach(const char *device, int pid, unsigned kind, uint64_t memory, const load_t *load) {
    nvmlReturn_t rc = check_load(load);
    if (rc == NVML_SUCCESS) rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    target_t t;
    uint64_t started = process_start(pid ? pid : getpid());
    if (kind < COMPUTE || kind > NO_NAME) rc = fail(NVML_ERROR_INVALID_ARGUMENT, "%u: no such kind of claim", kind);
    else if (kind != NO_NAME && !started) rc = fail(NVML_ERROR_NOT_FOUND, "%d: no such process", pid);
    else rc = device_of(device, &t);
    if (rc != NVML_SUCCESS) return done(rc);
    drop_dead(t.gpu->index);
    claim_t *claim = claim_add(&t, kind, memory, &rc);
    if (rc == NVML_ERROR_MEMORY) rc = fail(rc, "%s: out of memory", device);
    else if (rc == NVML_ERROR_GPU_IS_LOST) rc = fail(rc, "%s: the GPU is lost", device);
    else if (rc == NVML_ERROR_INVALID_ARGUMENT) rc = fail(rc, "%s: is in MIG mode: name one of its instances", device);
    else if (rc != NVML_SUCCESS) rc = fail(rc, "%s: the simulator has no room for another process", device);
    if (rc != NVML_SUCCESS) return done(rc);
    claim->pid = pid;
    claim->started = started;
    set_load(claim, load);
    if (!pid && kind != NO_NAME) {
        claim->locked = 1;
        claim->pid = slot_take(CLAIM_SLOT + (unsigned)(claim - S->claims));
        if (!claim->pid) rc = fail(NVML_ERROR_OPERATING_SYSTEM, "the process's number on the host is unknown");
    }
    return done(rc);
}

EXPORT nvmlReturn_t nvmlsim_attach(const char *device, int pid, unsigned kind, uint64_t memory, const load_t *load) {
    if (pid <= 0 && kind != NO_NAME) return fail(NVML_ERROR_INVALID_ARGUMENT, "%d: not a process id", pid);
    return attach(device, pid, kind, memory, load);
}

nvmlReturn_t nvmlsim_claim(const char *device, unsigned kind, uint64_t memory, const load_t *load) {
    return attach(device, 0, kind, memory, load);
}

/* Ends what a process holds, on one device or (NULL) everywhere. `pid` 0: what nobody is seen to hold. */
EXPORT nvmlReturn_t nvmlsim_detach(const char *device, int pid) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    target_t t = {NULL, NULL, NULL};
    if (device && (rc = device_of(device, &t)) != NVML_SUCCESS) return done(rc);
    unsigned ended = 0;
    for (unsigned i = 0; i < MAX_CLAIMS; i++) {
        claim_t *claim = &S->claims[i];
        if (!claim->kind || claim->pid != pid || (device && !claim_is_on(claim, &t))) continue;
        advance(&S->gpus[claim->gpu]);
        claim->kind = FREE;
        ended++;
    }
    if (!ended && device) rc = fail(NVML_ERROR_NOT_FOUND, "process %d holds nothing on %s", pid, device);
    else if (!ended) rc = fail(NVML_ERROR_NOT_FOUND, "process %d holds nothing", pid);
    return done(rc);
}

EXPORT nvmlReturn_t nvmlsim_xid(const char *device, uint64_t number) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    target_t t;
    if ((rc = device_of(device, &t)) != NVML_SUCCESS) return done(rc);
    if (t.compute) event_add(EVENT_XID, number, t.gpu, t.instance->id, t.compute->id);
    else event_add(EVENT_XID, number, t.gpu, NOT_APPLICABLE, NOT_APPLICABLE);
    return done(rc);
}

EXPORT nvmlReturn_t nvmlsim_fault(unsigned index, const char *what, uint64_t value) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    gpu_t *gpu;
    if ((rc = gpu_of(index, &gpu)) != NVML_SUCCESS) return done(rc);
    if (!strcmp(what, "lost")) gpu->lost = value != 0;
    else if (!strcmp(what, "temperature")) gpu->temperature = (int32_t)value;
    else if (!strcmp(what, "clocks-event-reasons")) gpu->clock_reasons = value;
    else if (!strcmp(what, "rows-corrected")) gpu->rows_corrected = (uint32_t)value;
    else if (!strcmp(what, "rows-uncorrected")) gpu->rows_uncorrected = (uint32_t)value;
    else if (!strcmp(what, "rows-pending")) gpu->rows_pending = value != 0;
    else if (!strcmp(what, "rows-failed")) gpu->rows_failed = value != 0;
    else if (!strcmp(what, "pcie-width")) gpu->pcie_width = (uint32_t)value;
    else if (!strcmp(what, "ecc-corrected") || !strcmp(what, "ecc-uncorrected")) {
        int uncorrected = !strcmp(what, "ecc-uncorrected");
        gpu->ecc_volatile[uncorrected] += value;
        gpu->ecc_aggregate[uncorrected] += value;
        event_add(uncorrected ? EVENT_DOUBLE_BIT_ECC : EVENT_SINGLE_BIT_ECC, 0, gpu, NOT_APPLICABLE, NOT_APPLICABLE);
    } else rc = fail(NVML_ERROR_INVALID_ARGUMENT, "%s: no such fault", what);
    return done(rc);
}

/* As after the driver began anew: what lives in the GPU's memory only is gone. */
static void begin_anew(gpu_t *gpu) {
    lose_instances(gpu);
    gpu->ecc_volatile[0] = gpu->ecc_volatile[1] = 0;
    gpu->clock_reasons = 0;
    gpu->lost = 0;
    gpu->rows_pending = 0;
    gpu->mig_current = gpu->mig_pending;
}

EXPORT nvmlReturn_t nvmlsim_reset(unsigned index) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    gpu_t *gpu;
    if ((rc = gpu_of(index, &gpu)) != NVML_SUCCESS) return done(rc);
    if (holders(gpu, -1, NULL))
        return done(fail(NVML_ERROR_IN_USE, "GPU %u is in use: `nvmlsim list --json` says by whom", index));
    begin_anew(gpu);
    event_add(EVENT_MIG_CONFIG, 0, gpu, NOT_APPLICABLE, NOT_APPLICABLE);
    return done(rc);
}

static void load_driver(void) {
    for (unsigned i = 0; i < S->gpu_count; i++) {
        begin_anew(&S->gpus[i]);
        S->gpus[i].energy = 0;
    }
    memset(S->sessions, 0, sizeof S->sessions);
    S->driver_epoch++;
    S->loaded = DRIVER_LOADED;
}

EXPORT nvmlReturn_t nvmlsim_reboot(void) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    load_driver();
    /* Ampere keeps its mode in the InfoROM; later ones begin without. */
    for (unsigned i = 0; i < S->gpu_count; i++)
        if (model_of(&S->gpus[i])->architecture != AMPERE) S->gpus[i].mig_current = S->gpus[i].mig_pending = 0;
    make_nodes();
    return done(rc);
}

EXPORT nvmlReturn_t nvmlsim_driver(int loaded) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    if (loaded) load_driver();
    else S->loaded = DRIVER_GONE;
    return done(rc);
}

/* Lets every call of NVML wait from now on, or answers all that wait. */
EXPORT nvmlReturn_t nvmlsim_hang(int hangs) {
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    if (S->loaded == DRIVER_GONE) rc = fail(NVML_ERROR_DRIVER_NOT_LOADED, "the driver is not loaded");
    else S->loaded = hangs ? DRIVER_HANGS : DRIVER_LOADED;
    return done(rc);
}

/* Lets simulated time jump by so many seconds and then pass so many times as fast (0: as before). */
EXPORT nvmlReturn_t nvmlsim_clock(double jump, double speed) {
    if (!(jump >= 0) || !(speed >= 0) || !isfinite(jump) || !isfinite(speed))
        return fail(NVML_ERROR_INVALID_ARGUMENT, "time only goes forward");
    nvmlReturn_t rc = open_state(1);
    if (rc != NVML_SUCCESS) return rc;
    double now = state_now();
    S->clock_simulated = now + jump;
    S->clock_real = real_now();
    if (speed > 0) S->clock_speed = speed;
    return done(rc);
}
