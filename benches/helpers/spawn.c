/* The least that starting programs costs: posix_spawn in a loop.
 *
 *   spawn together N PROGRAM ARG…   starts N at once, waits for all; prints the time before the first, in ns
 *   spawn in-turn N PROGRAM ARG…    N times: start, wait; prints how long each took, in ns, a line each; the exit is
 *                                   1 where one of them did not end with 0
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
    int together, count, status, bad = 0;
    pid_t pid;

    if (argc < 4)
        return 2;
    together = strcmp(argv[1], "together") == 0;
    count = atoi(argv[2]);
    if (together)
        printf("%lld\n", now(CLOCK_REALTIME));
    for (int i = 0; i < count; i++) {
        long long before = now(CLOCK_MONOTONIC);
        if (posix_spawnp(&pid, argv[3], NULL, NULL, argv + 3, environ) != 0)
            return 1;
        if (!together) {
            waitpid(pid, &status, 0);
            bad |= status != 0;
            printf("%lld\n", now(CLOCK_MONOTONIC) - before);
        }
    }
    while (together && wait(&status) > 0)
        bad |= status != 0;
    return bad;
}
