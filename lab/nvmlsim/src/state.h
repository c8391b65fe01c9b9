/* The simulated server: one file, mapped by every process that uses the library.
 *
 * One writer or reader at a time, by a record lock on the file: the kernel gives it back when its holder dies, however
 * it dies, and in any namespace. A change is made in a copy that becomes the state in one step, so a process that is
 * killed in the middle leaves the state as it was. */
#ifndef NVMLSIM_STATE_H
#define NVMLSIM_STATE_H

#include <stdint.h>

#include "nvml.h"

enum {
    MAX_GPUS = 16,
    MAX_INSTANCES = 8, /* GPU instances of a GPU, compute instances of a GPU instance */
    MAX_PROFILES = 8,
    MAX_CLAIMS = 256,
    MAX_SESSIONS = 256,
    MAX_EVENTS = 256,
    MAX_POINTS = 16,
    MEMORY_SLICES = 8,
    UUID_SIZE = 44,
};
enum { AMPERE = 7, HOPPER = 9 }; /* NVML's architecture numbers */
/* NO_NAME: memory that no process is seen to hold, as after a driver's mistake. HOLDER: keeps the device open only. */
enum claim_kind { FREE, COMPUTE, GRAPHICS, HOLDER, NO_NAME };

typedef struct {
    const char *name;
    unsigned argument, id, compute, memory, starts[MEMORY_SLICES], start_count, most;
    unsigned memory_mib, sm, copy, decoder, jpeg, ofa;
} profile_t;

typedef struct {
    const char *key, *name;
    unsigned architecture, capability[2], pci_device, pci_subsystem, memory_mib, sm, cores, bus_width;
    unsigned idle_watts, limit_watts, sm_clock, memory_clock, pcie_generation;
    profile_t profiles[MAX_PROFILES];
    unsigned profile_count;
} model_t;

extern const model_t MODELS[];
extern const unsigned MODEL_COUNT;
extern const uint64_t FINGERPRINT; /* of models and state layout: both sides of a file must agree on it */

/* A serial is unique in the life of a state file, and 0 where there is nothing. */
typedef struct {
    uint64_t serial;
    uint32_t id, slices, start;
    char uuid[UUID_SIZE];
} compute_t;

typedef struct {
    uint64_t serial;
    uint32_t id, profile, start;
    double activity; /* percent seconds since it was made */
    compute_t compute[MAX_INSTANCES];
} instance_t;

typedef struct {
    uint32_t model, index;
    char uuid[UUID_SIZE], board[16];
    uint32_t mig_current, mig_pending, lost;
    uint64_t ecc_volatile[2], ecc_aggregate[2]; /* corrected, uncorrected */
    uint32_t rows_corrected, rows_uncorrected, rows_pending, rows_failed;
    int32_t temperature; /* C; 0: follows the load */
    uint64_t clock_reasons;
    uint32_t pcie_width;
    double energy;   /* mJ since the driver was loaded, up to `measured` */
    double activity; /* percent seconds, up to `measured` */
    double measured; /* simulated seconds */
    instance_t instances[MAX_INSTANCES];
} gpu_t;

typedef struct {
    uint32_t kind, gpu;
    uint64_t compute; /* serial of the compute instance; 0: the whole GPU */
    int32_t pid;
    uint32_t locked; /* the process itself holds the slot's record lock: it lives as long as that */
    uint64_t started; /* field 22 of /proc/PID/stat */
    uint64_t memory;  /* bytes */
    double since;     /* simulated seconds */
    double loop;      /* seconds after which the curve begins again; 0: it stays at its last point */
    uint32_t points;
    struct { float at, load; } curve[MAX_POINTS]; /* from `at` seconds on, `load` percent */
} claim_t;

typedef struct {
    uint32_t used;
    int32_t pid;
    uint64_t started;
} session_t;

typedef struct {
    uint64_t number, type, data;
    uint32_t gpu, instance_id, compute_id;
} event_t;

/* Values of `loaded`: a driver that hangs answers nobody before it is woken. */
enum { DRIVER_GONE, DRIVER_LOADED, DRIVER_HANGS };

typedef struct {
    uint32_t gpu_count, nodes, loaded, driver_epoch;
    uint64_t next_serial, next_event;
    double clock_real, clock_simulated, clock_speed; /* simulated = clock_simulated + (real - clock_real) * speed */
    gpu_t gpus[MAX_GPUS];
    claim_t claims[MAX_CLAIMS];
    session_t sessions[MAX_SESSIONS];
    event_t events[MAX_EVENTS]; /* event n is at n % MAX_EVENTS */
} state_t;

/* The state, while locked; another copy after state_change(). */
extern state_t *S;

/* Selects the file that $NVMLSIM_STATE names, and locks it. */
nvmlReturn_t state_lock(void);
void state_change(void);
void state_unlock(void);
/* Ends a lock without the change. */
void state_abort(void);
nvmlReturn_t state_create(const char *path);
uint64_t state_generation(void);
/* Waits until an event is added after event number `next`, at most so many milliseconds. Not locked. */
void state_wait_event(uint64_t next, unsigned milliseconds);
const char *state_path(void);
unsigned state_owner(void);
double real_now(void);
double state_now(void);

/* Slots: a process shows that it lives by the record lock of its slot. */
enum { CLAIM_SLOT = 0, SESSION_SLOT = MAX_CLAIMS, SLOTS = MAX_CLAIMS + MAX_SESSIONS };
/* Takes the lock of a slot for this process; gives its process id as the simulated host counts it, 0 if it failed. */
int slot_take(unsigned slot);
void slot_give(unsigned slot);
int slot_held(unsigned slot);

#endif
