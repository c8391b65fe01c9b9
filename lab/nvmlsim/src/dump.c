/* The whole server as JSON. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "server.h"

static void dump_claims(FILE *out, const target_t *target) {
    static const char *const kinds[] = {"", "compute", "graphics", "holder", "nobody"};
    const char *separator = "";
    for (unsigned i = 0; i < MAX_CLAIMS; i++) {
        const claim_t *claim = &S->claims[i];
        if (!claim_is_on(claim, target) || (!target->compute && claim->compute)) continue;
        fprintf(out, "%s{\"pid\": %d, \"kind\": \"%s\", \"memory\": %llu, \"load\": %.3f}", separator, claim->pid,
                kinds[claim->kind], (unsigned long long)claim->memory, load_at(claim, state_now()));
        separator = ", ";
    }
}

static void dump_instance(FILE *out, gpu_t *gpu, instance_t *instance) {
    fprintf(out, "{\"id\": %u, \"profile\": \"%s\", \"start\": %u, \"size\": %u, \"capability\": %u, \"compute\": [",
            instance->id, profile_of(gpu, instance)->name, instance->start, profile_of(gpu, instance)->memory,
            instance_capability(gpu, instance));
    const char *separator = "";
    for (unsigned c = 0; c < MAX_INSTANCES; c++) {
        target_t target = {gpu, instance, &instance->compute[c]};
        if (!target.compute->serial) continue;
        fprintf(out, "%s{\"id\": %u, \"uuid\": \"%s\", \"slices\": %u, \"capability\": %u, \"processes\": [", separator,
                target.compute->id, target.compute->uuid, target.compute->slices,
                compute_capability(gpu, instance, target.compute));
        dump_claims(out, &target);
        fputs("]}", out);
        separator = ", ";
    }
    fputs("]}", out);
}

/* The caller frees the text; NULL when there is no server. Only what the caller may see is in it. */
EXPORT char *nvmlsim_dump(void) {
    char *text = NULL;
    size_t size;
    if (state_lock() != NVML_SUCCESS) return NULL;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        state_abort();
        return NULL;
    }
    for (unsigned g = 0; g < S->gpu_count; g++) drop_dead(g);
    fprintf(out, "{\"driver_loaded\": %s, \"nodes\": %s, \"speed\": %.6f, \"gpus\": [", S->loaded ? "true" : "false",
            S->nodes ? "true" : "false", S->clock_speed);
    const char *separator = "";
    for (unsigned g = 0; g < S->gpu_count; g++) {
        gpu_t *gpu = &S->gpus[g];
        target_t whole = {gpu, NULL, NULL};
        if (!sees_gpu(gpu)) continue;
        fprintf(out, "%s{\"index\": %u, \"model\": \"%s\", \"uuid\": \"%s\"", separator, g, model_of(gpu)->key,
                gpu->uuid);
        fprintf(out, ", \"mig\": %s, \"mig_pending\": %s, \"lost\": %s", gpu->mig_current ? "true" : "false",
                gpu->mig_pending ? "true" : "false", gpu->lost ? "true" : "false");
        fprintf(out, ", \"watts\": %.3f, \"processes\": [", device_power(gpu, state_now()));
        dump_claims(out, &whole);
        fputs("], \"holders\": [", out);
        holders(gpu, -1, out);
        fputs("], \"instances\": [", out);
        const char *between = "";
        for (unsigned i = 0; i < MAX_INSTANCES; i++) {
            if (!gpu->instances[i].serial) continue;
            fputs(between, out);
            dump_instance(out, gpu, &gpu->instances[i]);
            between = ", ";
        }
        fputs("]}", out);
        separator = ", ";
    }
    fputs("]}\n", out);
    fclose(out);
    state_unlock();
    return text;
}

EXPORT void nvmlsim_free(char *text) { free(text); }
