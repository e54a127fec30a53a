/* A fork bomb: every process forks until the kernel refuses, then stays. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    pid_t first = getpid();
    while (fork() >= 0)
        ;
    if (getpid() == first) {
        printf("fork: %s\n", strerror(errno));
        return 0;
    }
    for (;;)
        pause();
}
