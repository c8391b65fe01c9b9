/* Events: Xid errors, ECC errors, changes of the layout. */
#include <stdlib.h>
#include <time.h>

#include "api.h"

enum { SUPPORTED = EVENT_SINGLE_BIT_ECC | EVENT_DOUBLE_BIT_ECC | EVENT_XID | EVENT_MIG_CONFIG };

struct event_set {
    uint64_t next; /* the first event that was not delivered */
    uint64_t types[MAX_GPUS];
};

void event_add(uint64_t type, uint64_t data, const gpu_t *gpu, unsigned instance_id, unsigned compute_id) {
    S->events[S->next_event % MAX_EVENTS] = (event_t){S->next_event, type, data, gpu->index, instance_id, compute_id};
    S->next_event++;
}

EXPORT nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    nvmlReturn_t rc = api_begin(0);
    if (rc != NVML_SUCCESS) return rc;
    if (!set) return api_end(NVML_ERROR_INVALID_ARGUMENT);
    *set = calloc(1, sizeof **set);
    if (*set) (*set)->next = S->next_event;
    return api_end(*set ? NVML_SUCCESS : NVML_ERROR_MEMORY);
}

EXPORT nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    free(set);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
    DEVICE(WHOLE, types != NULL)
    *types = SUPPORTED;
    END
}

EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    DEVICE(0, set != NULL)
    if (t.compute) rc = NVML_ERROR_INVALID_ARGUMENT;
    else if (types & ~(unsigned long long)SUPPORTED) rc = NVML_ERROR_NOT_SUPPORTED;
    else set->types[t.gpu->index] |= types;
    END
}

/* The next event that this caller may know of. What concerns one instance is for the privileged. */
static int take(nvmlEventSet_t set, nvmlEventData_t *data) {
    /* Who is slower than the ring loses the oldest. */
    if (set->next + MAX_EVENTS < S->next_event) set->next = S->next_event - MAX_EVENTS;
    while (set->next < S->next_event) {
        const event_t *event = &S->events[set->next++ % MAX_EVENTS];
        if (!(set->types[event->gpu] & event->type)) continue;
        if (event->instance_id != NOT_APPLICABLE && !may_monitor()) continue;
        *data = (nvmlEventData_t){device_handle(&S->gpus[event->gpu], NULL), event->type, event->data,
                                  event->instance_id, event->compute_id};
        return 1;
    }
    return 0;
}

static long long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout) {
    if (!set || !data) return NVML_ERROR_INVALID_ARGUMENT;
    long long end = milliseconds() + timeout;
    for (;;) {
        nvmlReturn_t rc = api_begin(0);
        if (rc != NVML_SUCCESS) return rc;
        int found = take(set, data);
        uint64_t next = S->next_event;
        state_unlock();
        long long left = end - milliseconds();
        if (found) return NVML_SUCCESS;
        if (left <= 0) return NVML_ERROR_TIMEOUT;
        state_wait_event(next, (unsigned)left);
    }
}

EXPORT nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout) {
    return nvmlEventSetWait_v2(set, data, timeout);
}
