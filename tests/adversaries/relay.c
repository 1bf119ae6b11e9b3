/* Executes itself again and again, each time from a thread that is not its main one, which then takes the main one's
 * place: the process id stays, everything behind it changes.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *self;
static char round_text[32];

static void *go(void *unused) {
    (void)unused;
    usleep(200);
    execl("/proc/self/exe", self, round_text, (char *)NULL);
    return NULL;
}

int main(int argc, char **argv) {
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    self = argv[0];
    snprintf(round_text, sizeof round_text, "%lu", count + 1);
    if (count == 20) {
        puts("ready");
        fflush(stdout);
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, go, NULL) != 0) {
        return 1;
    }
    for (;;) {
        pause();
    }
}
