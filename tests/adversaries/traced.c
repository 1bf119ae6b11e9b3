/* A process and its tracer, which gets every signal first.
 *
 * Usage: traced swallow|hold; the tracer either lets it run on without the signal, or leaves it where it is. Prints the
 * pid of the traced one.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int holds = argc > 1 && strcmp(argv[1], "hold") == 0;
    pid_t traced = fork();
    if (traced == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGUSR1);
        for (;;) {
            usleep(1000);
        }
    }
    for (int stops = 0;; stops++) {
        int status = 0;
        if (waitpid(traced, &status, 0) != traced || !WIFSTOPPED(status)) {
            return 0;
        }
        if (stops == 0) {
            printf("%d\n", (int)traced);
            fflush(stdout);
        } else if (holds) {
            for (;;) {
                pause();
            }
        }
        ptrace(PTRACE_CONT, traced, NULL, NULL);
    }
}
