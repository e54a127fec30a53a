/* Never ends, and does not listen. */
#include <signal.h>

int main(void) {
    signal(SIGTERM, SIG_IGN);
    for (volatile int turns = 0;; turns++)
        ;
}
