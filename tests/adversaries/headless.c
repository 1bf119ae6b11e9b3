/* Its main thread ends at once and a second one goes on: /proc calls it a zombie without an executable. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *go_on(void *unused) {
    (void)unused;
    puts("ready");
    fflush(stdout);
    for (;;) {
        pause();
    }
    return NULL;
}

int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, go_on, NULL) != 0) {
        return 1;
    }
    pthread_exit(NULL);
}
