/* Changes everything that a process can change of itself, all the time: name, arguments, executable.
 *
 * Usage: shapeshifter OTHER-COPY [names...]; it executes the other copy of itself about every millisecond, with the two
 * swapped, and between two executions renames itself and writes over its arguments. Its pid and start never change.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const char *const NAMES[] = {"sshd", "systemd", "kworker/0:1", "a) S 1 (", "x\ny", "dockerd"};

int main(int argc, char **argv) {
    if (argc < 3) {
        return 2;
    }
    char other[4096], self[4096], round[32];
    snprintf(other, sizeof other, "%s", argv[1]);
    snprintf(self, sizeof self, "%s", argv[2]);
    unsigned long count = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    if (count == 0) {
        puts("ready");
        fflush(stdout);
    }
    struct timespec pause = {0, 100000};
    for (int i = 0; i < 5; i++) {
        prctl(PR_SET_NAME, NAMES[(count + (unsigned long)i) % 6], 0, 0, 0);
        memset(argv[0], 'A' + (int)((count + (unsigned long)i) % 26), strlen(argv[0]));
        nanosleep(&pause, NULL);
    }
    snprintf(round, sizeof round, "%lu", count + 1);
    char *const next[] = {(char *)NAMES[count % 6], self, other, round, NULL};
    execv(other, next);
    return 1;
}
