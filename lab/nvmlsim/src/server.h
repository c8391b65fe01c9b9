/* What the server does with time, processes and layout: rules without NVML's calling conventions. */
#ifndef NVMLSIM_SERVER_H
#define NVMLSIM_SERVER_H

#include <stdio.h>

#include "state.h"

/* A device that somebody means: a whole GPU (instance NULL), or a compute instance with the instance it is in. */
typedef struct {
    gpu_t *gpu;
    instance_t *instance;
    compute_t *compute;
} target_t;

/* clock.c: load, power, energy. */
double load_at(const claim_t *claim, double when);
double device_load(const target_t *target, double when);
double device_power(const gpu_t *gpu, double when);
double average_power(const gpu_t *gpu, double when);
void advance(gpu_t *gpu);

/* claims.c: processes that use a device, and processes that have NVML open. */
uint64_t process_start(int pid);
int process_lives(int pid, uint64_t started);
void drop_dead(unsigned gpu);
int claim_is_on(const claim_t *claim, const target_t *target);
uint64_t memory_used(const target_t *target);
uint64_t memory_total(const target_t *target);
uint64_t memory_reserved(const target_t *target);
claim_t *claim_add(const target_t *target, unsigned kind, uint64_t memory, nvmlReturn_t *rc);
unsigned holders(const gpu_t *gpu, int sessions, FILE *names);
int session_open(void);
void session_close(int session);

/* mig.c: instances, as the driver lets them be made. */
const model_t *model_of(const gpu_t *gpu);
const profile_t *profile_of(const gpu_t *gpu, const instance_t *instance);
const profile_t *profile_by_id(const gpu_t *gpu, unsigned id);
const profile_t *profile_by_argument(const gpu_t *gpu, unsigned argument);
unsigned free_starts(const gpu_t *gpu, const profile_t *profile, unsigned starts[MEMORY_SLICES]);
nvmlReturn_t instance_create(gpu_t *gpu, const profile_t *profile, int start, instance_t **made);
nvmlReturn_t instance_destroy(gpu_t *gpu, instance_t *instance);
nvmlReturn_t compute_create(gpu_t *gpu, instance_t *instance, unsigned slices, int start, compute_t **made);
nvmlReturn_t compute_destroy(gpu_t *gpu, compute_t *compute);
unsigned compute_slices(unsigned profile);
unsigned compute_profile(unsigned slices);
unsigned compute_capacity(const instance_t *instance, const gpu_t *gpu, unsigned slices,
                          unsigned starts[MEMORY_SLICES]);
unsigned compute_sm(const gpu_t *gpu, const instance_t *instance, unsigned slices);
int has_instances(const gpu_t *gpu);
void lose_instances(gpu_t *gpu);
nvmlReturn_t mig_mode_set(gpu_t *gpu, unsigned mode, int own_session, nvmlReturn_t *activation);
void make_uuid(char *uuid, const char *prefix);

/* view.c: what the calling process may see. */
int sees_gpu(const gpu_t *gpu);
int sees_compute(const gpu_t *gpu, const instance_t *instance, const compute_t *compute);
int may_monitor(void);
int may_configure(void);
int on_host(void);
gpu_t *visible_gpu(unsigned index);
/* 0: found; the device with this index among those the caller sees, as NVML counts them. */
int visible_compute(gpu_t *gpu, unsigned index, target_t *found);
int find_device(const char *text, target_t *found);
unsigned instance_capability(const gpu_t *gpu, const instance_t *instance);
unsigned compute_capability(const gpu_t *gpu, const instance_t *instance, const compute_t *compute);
void make_nodes(void);

unsigned pci_bus(const gpu_t *gpu);

/* Adds an event and wakes who waits. */
void event_add(uint64_t type, uint64_t data, const gpu_t *gpu, unsigned instance_id, unsigned compute_id);

#endif
