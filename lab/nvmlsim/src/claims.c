/* Processes that use a device, and processes that have NVML open. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

static const uint64_t MIB = 1ULL << 20;

/* Field 22 of /proc/PID/stat; 0 when there is no such process, or only its remains that nobody has waited for. */
uint64_t process_start(int pid) {
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *stat = fopen(path, "re");
    if (!stat) return 0;
    size_t size = fread(text, 1, sizeof text - 1, stat);
    fclose(stat);
    text[size] = 0;
    char state, *after = strrchr(text, ')');
    unsigned long long start;
    /* Fields 3 (its state) and 22. */
    static const char fields[] =
        " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu";
    if (!after || sscanf(after + 1, fields, &state, &start) != 2) return 0;
    return state == 'Z' || state == 'X' ? 0 : start;
}

int process_lives(int pid, uint64_t started) { return process_start(pid) == started; }

static int claim_lives(unsigned slot) {
    const claim_t *claim = &S->claims[slot];
    if (claim->kind == NO_NAME) return 1;
    if (claim->locked) return slot_held(CLAIM_SLOT + slot);
    /* A container does not see the host's processes: their end is noticed there when the host looks. */
    return !on_host() || process_lives(claim->pid, claim->started);
}

/* Takes back what dead processes held on a GPU. */
void drop_dead(unsigned gpu) {
    for (unsigned i = 0; i < MAX_CLAIMS; i++) {
        if (!S->claims[i].kind || S->claims[i].gpu != gpu || claim_lives(i)) continue;
        state_change();
        advance(&S->gpus[gpu]);
        S->claims[i].kind = FREE;
    }
}

int claim_is_on(const claim_t *claim, const target_t *target) {
    if (!claim->kind || claim->gpu != target->gpu->index) return 0;
    if (!target->instance) return 1;
    for (unsigned i = 0; i < MAX_INSTANCES; i++) {
        const compute_t *compute = &target->instance->compute[i];
        if (compute->serial && compute->serial == claim->compute) return !target->compute || target->compute == compute;
    }
    return 0;
}

uint64_t memory_total(const target_t *target) {
    if (target->instance) return profile_of(target->gpu, target->instance)->memory_mib * MIB;
    return model_of(target->gpu)->memory_mib * MIB;
}

/* What the driver keeps for itself. */
uint64_t memory_reserved(const target_t *target) {
    if (target->instance) return 6 * MIB * profile_of(target->gpu, target->instance)->memory;
    return 560 * MIB;
}

/* What processes hold. The compute instances of an instance share its memory. */
uint64_t memory_used(const target_t *target) {
    target_t whole = {target->gpu, target->instance, NULL};
    uint64_t used = 0;
    for (unsigned i = 0; i < MAX_CLAIMS; i++)
        if (claim_is_on(&S->claims[i], &whole)) used += S->claims[i].memory;
    return used;
}

claim_t *claim_add(const target_t *target, unsigned kind, uint64_t memory, nvmlReturn_t *rc) {
    *rc = NVML_SUCCESS;
    if (target->gpu->lost) *rc = NVML_ERROR_GPU_IS_LOST;
    else if (!target->compute && target->gpu->mig_current && kind != HOLDER) *rc = NVML_ERROR_INVALID_ARGUMENT;
    else if (memory + memory_used(target) + memory_reserved(target) > memory_total(target)) *rc = NVML_ERROR_MEMORY;
    if (*rc != NVML_SUCCESS) return NULL;
    for (unsigned i = 0; i < MAX_CLAIMS; i++) {
        claim_t *claim = &S->claims[i];
        if (claim->kind) continue;
        advance(target->gpu);
        memset(claim, 0, sizeof *claim);
        claim->kind = kind;
        claim->gpu = target->gpu->index;
        claim->compute = target->compute ? target->compute->serial : 0;
        claim->memory = memory;
        claim->since = target->gpu->measured;
        claim->points = 1;
        return claim;
    }
    *rc = NVML_ERROR_INSUFFICIENT_RESOURCES;
    return NULL;
}

/* How many processes keep the GPU from a reset, apart from our own NVML. `names` receives them as JSON. */
unsigned holders(const gpu_t *gpu, int own_session, FILE *names) {
    unsigned count = 0;
    for (unsigned i = 0; i < MAX_CLAIMS; i++) {
        const claim_t *claim = &S->claims[i];
        if (!claim->kind || claim->gpu != gpu->index || claim->kind == NO_NAME || !claim_lives(i)) continue;
        if (names) fprintf(names, "%s{\"pid\": %d, \"kind\": \"process\"}", count ? ", " : "", claim->pid);
        count++;
    }
    for (unsigned i = 0; i < MAX_SESSIONS; i++) {
        if (!S->sessions[i].used || (int)i == own_session || !slot_held(SESSION_SLOT + i)) continue;
        if (names) fprintf(names, "%s{\"pid\": %d, \"kind\": \"nvml\"}", count ? ", " : "", S->sessions[i].pid);
        count++;
    }
    return count;
}

/* The slot of a new session of this process; -1 when there is none. The caller has called state_change(). */
int session_open(void) {
    for (int i = 0; i < MAX_SESSIONS; i++) {
        if (S->sessions[i].used && slot_held(SESSION_SLOT + (unsigned)i)) continue;
        int pid = slot_take(SESSION_SLOT + (unsigned)i);
        if (!pid) return -1;
        S->sessions[i] = (session_t){1, pid, process_start(pid)};
        return i;
    }
    return -1;
}

void session_close(int session) {
    S->sessions[session].used = 0;
    slot_give(SESSION_SLOT + (unsigned)session);
}
