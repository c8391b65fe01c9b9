/* Load, power and energy over simulated time. Loads are steps, so their integrals are exact. */
#include <math.h>
#include <stddef.h>

#include "server.h"

double load_at(const claim_t *claim, double when) {
    double since = when - claim->since, load = 0;
    if (since < 0) return 0;
    if (claim->loop > 0) since = fmod(since, claim->loop);
    for (unsigned i = 0; i < claim->points && claim->curve[i].at <= since; i++) load = claim->curve[i].load;
    return load;
}

/* When the load changes next, strictly after `when`. */
static double next_step(const claim_t *claim, double when) {
    double since = when - claim->since, base = claim->since;
    if (since < 0) return claim->since;
    if (claim->loop > 0) {
        base += floor(since / claim->loop) * claim->loop;
        since = when - base;
    }
    for (unsigned i = 0; i < claim->points; i++)
        if (claim->curve[i].at > since) return fmax(base + claim->curve[i].at, nextafter(when, INFINITY));
    return claim->loop > 0 ? fmax(base + claim->loop, nextafter(when, INFINITY)) : INFINITY;
}

double device_load(const target_t *target, double when) {
    double load = 0;
    for (unsigned i = 0; i < MAX_CLAIMS; i++)
        if (claim_is_on(&S->claims[i], target)) load += load_at(&S->claims[i], when);
    return fmin(load, 100);
}

/* The part of the GPU's multiprocessors that a claim can use. */
static double share(const gpu_t *gpu, const claim_t *claim) {
    if (!claim->compute) return 1;
    for (unsigned i = 0; i < MAX_INSTANCES; i++)
        for (unsigned c = 0; c < MAX_INSTANCES; c++) {
            const instance_t *instance = &gpu->instances[i];
            if (instance->compute[c].serial == claim->compute)
                return (double)compute_sm(gpu, instance, instance->compute[c].slices) / model_of(gpu)->sm;
        }
    return 0;
}

static double gpu_load(const gpu_t *gpu, double when) {
    double load = 0;
    for (const claim_t *claim = S->claims; claim < S->claims + MAX_CLAIMS; claim++)
        if (claim->kind && claim->gpu == gpu->index) load += share(gpu, claim) * load_at(claim, when);
    return fmin(load, 100);
}

double device_power(const gpu_t *gpu, double when) {
    const model_t *model = model_of(gpu);
    return model->idle_watts + (model->limit_watts - model->idle_watts) * gpu_load(gpu, when) / 100;
}

static double step_end(const gpu_t *gpu, double when, double limit) {
    for (const claim_t *claim = S->claims; claim < S->claims + MAX_CLAIMS; claim++)
        if (claim->kind && claim->gpu == gpu->index) limit = fmin(limit, next_step(claim, when));
    return limit;
}

/* Joules between two moments, with the claims there are now. */
static double joules(const gpu_t *gpu, double from, double to) {
    double sum = 0;
    for (double end; from < to; from = end) {
        end = step_end(gpu, from, to);
        sum += device_power(gpu, from) * (end - from);
    }
    return sum;
}

double average_power(const gpu_t *gpu, double when) { return joules(gpu, when - 1, when); }

/* Adds what was used since the last time. Called before anything that changes loads or layout. */
void advance(gpu_t *gpu) {
    double now = state_now();
    for (double from = gpu->measured, end; from < now; from = end) {
        end = step_end(gpu, from, now);
        gpu->energy += device_power(gpu, from) * (end - from) * 1000;
        gpu->activity += gpu_load(gpu, from) * (end - from);
        for (unsigned i = 0; i < MAX_INSTANCES; i++) {
            target_t target = {gpu, &gpu->instances[i], NULL};
            if (target.instance->serial) target.instance->activity += device_load(&target, from) * (end - from);
        }
    }
    gpu->measured = now;
}
