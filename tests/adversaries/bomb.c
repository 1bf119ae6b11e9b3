/* Forks as fast as it can, and so does every child; as many as RLIMIT_NPROC lets it have, and for so many seconds that a
 * test which fails leaves nothing behind.
 *
 * Usage: bomb MOST SECONDS; says a line once the limit was met for the first time. To be run under a user id that nobody
 * else has: the limit counts a user's processes, and does not bind root.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    rlim_t most = argc > 2 ? strtoul(argv[1], NULL, 10) : 0;
    time_t end = argc > 2 ? time(NULL) + (time_t)strtoul(argv[2], NULL, 10) : 0;
    struct rlimit limit = {most, most};
    if (getuid() == 0 || most == 0 || setrlimit(RLIMIT_NPROC, &limit) != 0) {
        return 2;
    }
    signal(SIGCHLD, SIG_IGN);
    pid_t first = getpid();
    for (int said = 0; time(NULL) < end;) {
        pid_t child = fork();
        if (child > 0 && getpid() != first && rand() % 64 == 0) {
            usleep(500);
        }
        if (child < 0) {
            if (!said && getpid() == first) {
                puts("full");
                fflush(stdout);
                said = 1;
            }
            usleep(1000);
        }
    }
    return 0;
}
