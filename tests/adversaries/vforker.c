/* Waits in the kernel (state D) for a vforked child that never lets it go on. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    puts("ready");
    fflush(stdout);
    if (vfork() == 0) {
        for (;;) {
            pause();
        }
    }
    return 0;
}
