/* stamp FILE: appends the time at which this program began, in ns since the epoch, as one line in one write. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    char line[32];
    int file, length;

    clock_gettime(CLOCK_REALTIME, &now);
    if (argc != 2)
        return 2;
    file = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (file < 0)
        return 1;
    length = snprintf(line, sizeof line, "%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
    return write(file, line, length) == length ? 0 : 1;
}
