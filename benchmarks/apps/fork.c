/* Forks children that exit at once, so many at a time: fork AT_A_TIME TOTAL prints how many a second. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 64;
    int at_a_time = atoi(argv[1]), total = atoi(argv[2]), forked = 0, reaped = 0;
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    while (reaped < total) {
        if (forked < total && forked - reaped < at_a_time) {
            pid_t pid = fork();
            if (pid == 0) _exit(0);
            if (pid < 0) return 71;
            forked++;
        } else if (wait(NULL) > 0) {
            reaped++;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%f\n", total / (ended.tv_sec - began.tv_sec + (ended.tv_nsec - began.tv_nsec) / 1e9));
    return 0;
}
