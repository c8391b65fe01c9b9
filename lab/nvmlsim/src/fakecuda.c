/* A process as CUDA programs are to the driver: it holds memory and load on the device it was given, until it ends.
 *
 * Linked statically, so that it runs in any container, whatever libraries that has. */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "server.h"

static const char USAGE[] =
    "usage: fakecuda [--device DEVICE] [--memory MIB] [--load PERCENT | --load SECONDS:PERCENT,...] [--loop SECONDS]\n"
    "                [--seconds SECONDS]\n"
    "Hold memory and load on a GPU device of the simulated server until the process ends.\n"
    "DEVICE: 0, 0:1 or a UUID; without it the first of CUDA_VISIBLE_DEVICES, then of what is visible.\n";

static int refuse(const char *why, const char *value) {
    fprintf(stderr, "fakecuda: %s: %s\n%s", value, why, USAGE);
    return 2;
}

/* 0 when the whole text is a number that is not negative. */
static int number(const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    return end == text || *end || !(*value >= 0);
}

static int read_load(char *text, load_t *load, double at[MAX_POINTS], double percent[MAX_POINTS]) {
    *load = (load_t){at, percent, 0, load->loop};
    if (!number(text, &percent[0])) {
        at[0] = 0;
        load->count = 1;
        return 0;
    }
    for (char *point = strtok(text, ","); point; point = strtok(NULL, ",")) {
        char *colon = strchr(point, ':');
        if (!colon || load->count == MAX_POINTS) return -1;
        *colon = 0;
        if (number(point, &at[load->count]) || number(colon + 1, &percent[load->count])) return -1;
        load->count++;
    }
    return load->count ? 0 : -1;
}

/* As CUDA chooses: the first device that it is allowed, of a GPU in MIG mode its first instance. */
static int choose(char device[UUID_SIZE]) {
    const char *named = getenv("CUDA_VISIBLE_DEVICES");
    target_t t = {NULL, NULL, NULL};
    if (state_lock() != NVML_SUCCESS) return -1;
    int found = -1;
    if (named) {
        char first[UUID_SIZE];
        snprintf(first, sizeof first, "%.*s", (int)strcspn(named, ","), named);
        found = find_device(first, &t);
        if (found == 0 && !t.compute && t.gpu->mig_current) found = visible_compute(t.gpu, 0, &t);
    }
    for (unsigned i = 0; !named && found != 0 && visible_gpu(i); i++) {
        t = (target_t){visible_gpu(i), NULL, NULL};
        found = t.gpu->mig_current ? visible_compute(t.gpu, 0, &t) : 0;
    }
    if (found == 0) strcpy(device, t.compute ? t.compute->uuid : t.gpu->uuid);
    state_unlock();
    return found;
}

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"device", required_argument, NULL, 'd'}, {"memory", required_argument, NULL, 'm'},
        {"load", required_argument, NULL, 'l'},   {"loop", required_argument, NULL, 'o'},
        {"seconds", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    char device[UUID_SIZE] = "", full[] = "100", *curve = full;
    double memory = 512, seconds = 0, at[MAX_POINTS], percent[MAX_POINTS];
    load_t load = {at, percent, 0, 0};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'd') snprintf(device, sizeof device, "%s", optarg);
        else if (option == 'l') curve = optarg;
        else if (option == 'm' && number(optarg, &memory)) return refuse("a number of MiB is expected", optarg);
        else if (option == 'o' && number(optarg, &load.loop)) return refuse("a number of seconds is expected", optarg);
        else if (option == 's' && number(optarg, &seconds)) return refuse("a number of seconds is expected", optarg);
        else if (option == 'h') return fputs(USAGE, stdout) < 0;
        else if (option == '?') return 2;
    }
    if (optind < argc) return refuse("no such argument", argv[optind]);
    if (read_load(curve, &load, at, percent)) return refuse("a load is PERCENT or SECONDS:PERCENT,...", curve);
    /* The first process of a container is not ended by signals that it does not handle. */
    signal(SIGTERM, end);
    signal(SIGINT, end);
    if (!*device && choose(device) != 0) {
        fprintf(stderr, "fakecuda: no CUDA-capable device is detected\n");
        return 1;
    }
    if (nvmlsim_claim(device, COMPUTE, (uint64_t)memory << 20, &load) != NVML_SUCCESS) {
        fprintf(stderr, "fakecuda: %s\n", nvmlsim_error());
        return 1;
    }
    printf("%s\n", device);
    fflush(stdout);
    if (seconds > 0) usleep((useconds_t)(seconds * 1e6));
    else for (;;) pause();
    return 0;
}
