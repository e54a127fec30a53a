/* A daemon in a session of its own that no polite signal ends. The program itself waits until its
   input is closed, and leaves the daemon behind. */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

static void stay(const char *name) {
    setsid();
    if (fork() != 0)
        _exit(0);
    for (int signal_number = 1; signal_number < 65; signal_number++)
        signal(signal_number, SIG_IGN);
    prctl(PR_SET_NAME, name);
    puts("here to stay");
    fflush(stdout);
    for (;;)
        pause();
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    if (fork() == 0)
        stay(argv[1]);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    return 0;
}
