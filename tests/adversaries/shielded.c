/* Its main thread waits in the kernel (state D) for a vforked child that never lets it go on, while another thread works:
 * what is sent to the process goes to the main thread, which does not take it.
 *
 * Usage: shielded COUNTER-FILE; the other thread counts in the file's first eight bytes.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile unsigned long *counter;

static void *work(void *unused) {
    (void)unused;
    for (;;) {
        ++*counter;
        if (*counter % 1000 == 0) {
            usleep(100);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    int file = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
    if (file < 0 || ftruncate(file, sizeof *counter) != 0) {
        return 2;
    }
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    pthread_t thread;
    if (counter == MAP_FAILED || pthread_create(&thread, NULL, work, NULL) != 0) {
        return 1;
    }
    puts("ready");
    fflush(stdout);
    if (vfork() == 0) {
        for (;;) {
            pause();
        }
    }
    return 0;
}
