/* What the calling process may see: on a host with device nodes, what it may open. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "server.h"

enum {
    NVIDIA_MAJOR = 195,
    CONTROL_MINOR = 255,
    UVM_MINOR = 252,
    /* Real capabilities have a major of their own; a lab host may only make nodes of this one. */
    CAPABILITY_MINORS = 1000,
    CONFIG_CAPABILITY = 1,
    MONITOR_CAPABILITY = 2,
    FIRST_CAPABILITY = 3,
    INSTANCE_IDS = 15,
    PER_INSTANCE = 9, /* the instance itself and its 8 possible compute instances */
    MAX_CAPABILITIES = FIRST_CAPABILITY + MAX_GPUS * INSTANCE_IDS * PER_INSTANCE,
};

/* Asked for, not opened: that would let the kernel look for a driver with modprobe, each time. Modes and device cgroups
   are the same question. */
static int may_open(const char *path, int mode) { return access(path, mode) == 0; }

static int has_capability(unsigned number) {
    char path[64];
    snprintf(path, sizeof path, "/dev/nvidia-caps/nvidia-cap%u", number);
    return may_open(path, R_OK);
}

unsigned instance_capability(const gpu_t *gpu, const instance_t *instance) {
    return FIRST_CAPABILITY + (gpu->index * INSTANCE_IDS + instance->id) * PER_INSTANCE;
}

unsigned compute_capability(const gpu_t *gpu, const instance_t *instance, const compute_t *compute) {
    return instance_capability(gpu, instance) + 1 + compute->id;
}

int sees_gpu(const gpu_t *gpu) {
    char path[32];
    snprintf(path, sizeof path, "/dev/nvidia%u", gpu->index);
    return !S->nodes || may_open(path, R_OK | W_OK);
}

int may_monitor(void) {
    if (!S->nodes) return geteuid() == 0 || geteuid() == state_owner();
    return geteuid() == 0 && has_capability(MONITOR_CAPABILITY);
}

int may_configure(void) { return S->nodes ? geteuid() == 0 && has_capability(CONFIG_CAPABILITY) : may_monitor(); }

int sees_compute(const gpu_t *gpu, const instance_t *instance, const compute_t *compute) {
    return !S->nodes || has_capability(MONITOR_CAPABILITY) ||
           (has_capability(instance_capability(gpu, instance)) &&
            has_capability(compute_capability(gpu, instance, compute)));
}

/* The host's list of locks is beside the state file in containers only. */
int on_host(void) {
    char path[4096];
    const char *state = state_path(), *end = strrchr(state, '/');
    snprintf(path, sizeof path, "%.*slocks", (int)(end ? end + 1 - state : 0), state);
    return access(path, F_OK) != 0;
}

gpu_t *visible_gpu(unsigned index) {
    for (unsigned i = 0; i < S->gpu_count; i++)
        if (sees_gpu(&S->gpus[i]) && index-- == 0) return &S->gpus[i];
    return NULL;
}

/* Devices are counted by instance id, then compute instance id. An instance without any leaves a hole. */
int visible_compute(gpu_t *gpu, unsigned index, target_t *found) {
    for (unsigned id = 0; id < INSTANCE_IDS; id++) {
        for (unsigned i = 0; i < MAX_INSTANCES; i++) {
            instance_t *instance = &gpu->instances[i];
            if (!instance->serial || instance->id != id) continue;
            unsigned devices = 0;
            for (unsigned c = 0; c < MAX_INSTANCES; c++) {
                compute_t *compute = &instance->compute[c];
                devices += compute->serial != 0;
                if (!compute->serial || !sees_compute(gpu, instance, compute) || index-- != 0) continue;
                *found = (target_t){gpu, instance, compute};
                return 0;
            }
            if (!devices && may_monitor() && index-- == 0) return -1;
        }
    }
    return -1;
}

/* A device by the names people use: 0, 0:1, a UUID. 0 when found. */
int find_device(const char *text, target_t *found) {
    unsigned gpu, device;
    int end = 0;
    if (sscanf(text, "%u:%u%n", &gpu, &device, &end) == 2 && !text[end])
        return visible_gpu(gpu) ? visible_compute(visible_gpu(gpu), device, found) : -1;
    if (sscanf(text, "%u%n", &gpu, &end) == 1 && !text[end]) {
        *found = (target_t){visible_gpu(gpu), NULL, NULL};
        return found->gpu ? 0 : -1;
    }
    for (unsigned g = 0; g < S->gpu_count; g++) {
        gpu_t *it = &S->gpus[g];
        if (!sees_gpu(it)) continue;
        *found = (target_t){it, NULL, NULL};
        if (!strcmp(text, it->uuid)) return 0;
        for (unsigned i = 0; i < MAX_INSTANCES; i++)
            for (unsigned c = 0; c < MAX_INSTANCES; c++) {
                *found = (target_t){it, &it->instances[i], &it->instances[i].compute[c]};
                if (found->compute->serial && !strcmp(text, found->compute->uuid))
                    return sees_compute(it, found->instance, found->compute) ? 0 : -1;
            }
    }
    return -1;
}

static void node(const char *path, unsigned mode, unsigned minor) {
    if (mknod(path, S_IFCHR | mode, makedev(NVIDIA_MAJOR, minor)) == 0) chmod(path, mode);
}

static void capability_node(unsigned number, int wanted) {
    char path[64];
    snprintf(path, sizeof path, "/dev/nvidia-caps/nvidia-cap%u", number);
    if (!wanted) unlink(path);
    else node(path, number == CONFIG_CAPABILITY ? 0400 : 0444, CAPABILITY_MINORS + number);
}

/* Makes the nodes of what there is and removes those of what is gone, as the driver and its helpers do. Only on the
 * host: a container's nodes are what it was given. */
void make_nodes(void) {
    if (!S->nodes || geteuid() != 0 || !on_host()) return;
    node("/dev/nvidiactl", 0666, CONTROL_MINOR);
    node("/dev/nvidia-uvm", 0666, UVM_MINOR);
    node("/dev/nvidia-uvm-tools", 0666, UVM_MINOR + 1);
    mkdir("/dev/nvidia-caps", 0755);
    char wanted[MAX_CAPABILITIES] = {0};
    wanted[CONFIG_CAPABILITY] = wanted[MONITOR_CAPABILITY] = 1;
    for (unsigned g = 0; g < S->gpu_count; g++) {
        gpu_t *gpu = &S->gpus[g];
        char path[32];
        snprintf(path, sizeof path, "/dev/nvidia%u", g);
        node(path, 0666, g);
        for (unsigned i = 0; i < MAX_INSTANCES; i++) {
            instance_t *instance = &gpu->instances[i];
            if (!instance->serial) continue;
            wanted[instance_capability(gpu, instance)] = 1;
            for (unsigned c = 0; c < MAX_INSTANCES; c++)
                if (instance->compute[c].serial) wanted[compute_capability(gpu, instance, &instance->compute[c])] = 1;
        }
    }
    unsigned end = FIRST_CAPABILITY + S->gpu_count * INSTANCE_IDS * PER_INSTANCE;
    for (unsigned i = 1; i < end; i++) capability_node(i, wanted[i]);
}
