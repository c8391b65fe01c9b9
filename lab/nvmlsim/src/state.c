/* The state file: mapping, lock, change in one step. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    uint64_t magic, fingerprint;
    uint64_t slot_base; /* first byte of the slots' record locks: tells this file's from others in /proc/locks */
    _Atomic uint64_t generation; /* copies[generation % 2] is the state */
    _Atomic uint32_t event_word; /* a futex, changed with each event */
    state_t copies[2];
} file_t;

static const uint64_t MAGIC = 0x314D49534C4D564EULL; /* NVMLSIM1 */
static const char DEFAULT_PATH[] = "/run/nvmlsim/state";
static const off_t MAIN_LOCK = 0;

state_t *S;

static pthread_mutex_t threads = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int fd;
    dev_t device;
    ino_t inode;
    file_t *map;
} file = {.fd = -1};
static int changed;
static int held_slots[SLOTS];

/* A child of fork() inherits the memory of a mutex that another thread may hold, and no record lock. */
static void before_fork(void) { pthread_mutex_lock(&threads); }
static void after_fork(void) { pthread_mutex_unlock(&threads); }
static void in_child(void) {
    pthread_mutex_unlock(&threads);
    memset(held_slots, 0, sizeof held_slots);
}
__attribute__((constructor)) static void on_load(void) { pthread_atfork(before_fork, after_fork, in_child); }

static int record_lock(int command, short type, off_t start) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};
    int rc;
    while ((rc = fcntl(file.fd, command, &lock)) < 0 && errno == EINTR) {
    }
    return command == F_GETLK && rc == 0 ? lock.l_type : rc;
}

const char *state_path(void) {
    const char *path = getenv("NVMLSIM_STATE");
    return path && *path ? path : DEFAULT_PATH;
}

static nvmlReturn_t map_file(const char *path) {
    struct stat now;
    if (stat(path, &now) < 0) return errno == EACCES ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_DRIVER_NOT_LOADED;
    /* Closing any descriptor of a file gives back all its record locks: it is opened once and kept. */
    if (file.fd >= 0 && now.st_dev == file.device && now.st_ino == file.inode) return NVML_SUCCESS;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_DRIVER_NOT_LOADED;
    file_t *map = MAP_FAILED;
    if (fstat(fd, &now) == 0 && now.st_size == sizeof(file_t))
        map = mmap(NULL, sizeof(file_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED || map->magic != MAGIC || map->fingerprint != FINGERPRINT) {
        if (map != MAP_FAILED) munmap(map, sizeof(file_t));
        close(fd);
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    }
    if (file.fd >= 0) {
        munmap(file.map, sizeof(file_t));
        close(file.fd);
        memset(held_slots, 0, sizeof held_slots);
    }
    file.fd = fd;
    file.device = now.st_dev;
    file.inode = now.st_ino;
    file.map = map;
    return NVML_SUCCESS;
}

nvmlReturn_t state_lock(void) {
    pthread_mutex_lock(&threads);
    nvmlReturn_t rc = map_file(state_path());
    if (rc == NVML_SUCCESS && record_lock(F_SETLKW, F_WRLCK, MAIN_LOCK) < 0) rc = NVML_ERROR_OPERATING_SYSTEM;
    if (rc != NVML_SUCCESS) {
        pthread_mutex_unlock(&threads);
        return rc;
    }
    changed = 0;
    S = &file.map->copies[file.map->generation % 2];
    return NVML_SUCCESS;
}

void state_change(void) {
    if (changed) return;
    state_t *copy = &file.map->copies[(file.map->generation + 1) % 2];
    memcpy(copy, S, sizeof *copy);
    S = copy;
    changed = 1;
}

void state_unlock(void) {
    int news = 0;
    if (changed) {
        news = S->next_event != file.map->copies[file.map->generation % 2].next_event;
        atomic_fetch_add(&file.map->generation, 1);
    }
    if (news) {
        atomic_fetch_add(&file.map->event_word, 1);
        syscall(SYS_futex, &file.map->event_word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
    state_abort();
}

void state_abort(void) {
    S = NULL;
    record_lock(F_SETLK, F_UNLCK, MAIN_LOCK);
    pthread_mutex_unlock(&threads);
}

static void fill(file_t *map, int anew) {
    state_t *fresh = &map->copies[(map->generation + 1) % 2];
    uint64_t seed[2];
    if (getrandom(seed, sizeof seed, 0) != sizeof seed) abort();
    memset(fresh, 0, sizeof *fresh);
    fresh->next_serial = 1 + seed[1] % (1ULL << 40);
    fresh->next_event = 1;
    fresh->loaded = DRIVER_LOADED;
    fresh->driver_epoch = (uint32_t)(seed[0] >> 32);
    fresh->clock_speed = 1;
    fresh->clock_simulated = (double)time(NULL);
    fresh->clock_real = real_now();
    if (anew) map->slot_base = (1ULL << 60) + (seed[0] % (1ULL << 40) << 12);
    map->magic = MAGIC;
    map->fingerprint = FINGERPRINT;
    atomic_fetch_add(&map->generation, 1);
}

static nvmlReturn_t create_file(const char *path) {
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s.%d", path, (int)getpid());
    int fd = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return NVML_ERROR_OPERATING_SYSTEM;
    file_t *map = MAP_FAILED;
    if (ftruncate(fd, sizeof(file_t)) == 0)
        map = mmap(NULL, sizeof(file_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int failed = map == MAP_FAILED;
    if (!failed) {
        fill(map, 1);
        munmap(map, sizeof(file_t));
        /* Everybody may claim memory; who may change the layout is decided as the driver does. */
        failed = fchmod(fd, 0666) < 0 || rename(part, path) < 0;
    }
    if (failed) unlink(part);
    close(fd);
    return failed ? NVML_ERROR_OPERATING_SYSTEM : NVML_SUCCESS;
}

nvmlReturn_t state_create(const char *path) {
    pthread_mutex_lock(&threads);
    nvmlReturn_t rc = map_file(path);
    if (rc != NVML_SUCCESS) {
        rc = create_file(path);
    } else if (record_lock(F_SETLKW, F_WRLCK, MAIN_LOCK) < 0) {
        rc = NVML_ERROR_OPERATING_SYSTEM;
    } else {
        /* Others, in containers too, have this very file mapped. */
        fill(file.map, 0);
        record_lock(F_SETLK, F_UNLCK, MAIN_LOCK);
    }
    pthread_mutex_unlock(&threads);
    return rc;
}

uint64_t state_generation(void) { return file.map->generation; }

unsigned state_owner(void) {
    struct stat now;
    return fstat(file.fd, &now) == 0 ? now.st_uid : (unsigned)-1;
}

double real_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double state_now(void) {
    double real = real_now();
    /* After a reboot of the machine below us its clock begins again. */
    double passed = real > S->clock_real ? real - S->clock_real : 0;
    return S->clock_simulated + passed * S->clock_speed;
}

void state_wait_event(uint64_t next, unsigned milliseconds) {
    pthread_mutex_lock(&threads);
    file_t *map = file.map;
    pthread_mutex_unlock(&threads);
    uint32_t word = map->event_word;
    if (map->copies[map->generation % 2].next_event != next) return;
    struct timespec limit = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    syscall(SYS_futex, &map->event_word, FUTEX_WAIT, word, &limit, NULL, 0);
}

/* The process's id in the simulated host. A container has the host's list of locks beside the state file, whose
 * numbers are the host's; elsewhere we are on the host. */
static int host_pid(unsigned slot) {
    char path[PATH_MAX], line[256];
    const char *state = state_path(), *end = strrchr(state, '/');
    snprintf(path, sizeof path, "%.*slocks", (int)(end ? end + 1 - state : 0), state);
    FILE *locks = fopen(path, "re");
    if (!locks) return errno == ENOENT ? (int)getpid() : 0;
    int found = 0;
    while (!found && fgets(line, sizeof line, locks)) {
        int pid;
        unsigned long long start;
        if (sscanf(line, "%*d: POSIX ADVISORY WRITE %d %*s %llu", &pid, &start) == 2 &&
            start == file.map->slot_base + slot)
            found = pid;
    }
    fclose(locks);
    return found;
}

int slot_take(unsigned slot) {
    if (record_lock(F_SETLK, F_WRLCK, (off_t)(file.map->slot_base + slot)) < 0) return 0;
    int pid = host_pid(slot);
    if (pid) held_slots[slot] = 1;
    else record_lock(F_SETLK, F_UNLCK, (off_t)(file.map->slot_base + slot));
    return pid;
}

void slot_give(unsigned slot) {
    if (!held_slots[slot]) return;
    held_slots[slot] = 0;
    record_lock(F_SETLK, F_UNLCK, (off_t)(file.map->slot_base + slot));
}

int slot_held(unsigned slot) {
    /* The kernel does not report a process's own locks to it. */
    return held_slots[slot] || record_lock(F_GETLK, F_WRLCK, (off_t)(file.map->slot_base + slot)) == F_WRLCK;
}
