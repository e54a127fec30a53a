/* Looks for what is not its own: the password file, and the memory of the process that started the
   sandbox. It is told that process's pid and the address of a secret, so it need not search. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

static int gained;

static void report(const char *what, long result) {
    int error = errno;
    const char *answer = error == ENOENT  ? "ENOENT"
                         : error == ESRCH ? "ESRCH"
                         : error == EPERM ? "EPERM"
                                          : "refused";
    gained += result >= 0;
    printf("%s %s, ", what, result >= 0 ? "GAINED" : answer);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    pid_t parent = atoi(argv[1]);
    char path[64], secret[16];
    struct iovec here = {secret, sizeof secret};
    struct iovec there = {(void *)strtoul(argv[2], NULL, 10), sizeof secret};

    report("shadow", open("/etc/shadow", O_RDONLY));
    snprintf(path, sizeof path, "/proc/%d/mem", parent);
    report("parent's mem", open(path, O_RDONLY));
    report("its secret", process_vm_readv(parent, &here, 1, &there, 1, 0));
    report("init's mem", open("/proc/1/mem", O_RDONLY));
    report("ptrace", ptrace(PTRACE_ATTACH, 1, NULL, NULL));

    int variables = 0;
    while (environ[variables] != NULL)
        variables++;
    printf("%d variables\n", variables);
    return gained != 0;
}
