# Two programs of C: POSIX shared memory, semaphores and queues, and those of System V.
set -eu
cat >both.h <<'C'
#include <fcntl.h>
#include <mqueue.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <unistd.h>
#define CHECK(call) do { if ((long)(call) == -1) { perror(#call); exit(1); } } while (0)
static char name[64];
static void names(char **words) { snprintf(name, sizeof name, "/stockade-test-%s", words[1]); }
C
cat >first.c <<'C'
#include "both.h"
int main(int count, char **words) {
    int memory, v, queue_v;
    mqd_t queue;
    char *at;
    names(words);
    struct mq_attr attributes = { .mq_maxmsg = 4, .mq_msgsize = 100 };
    CHECK(memory = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600));
    CHECK(ftruncate(memory, 4096));
    CHECK(at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0));
    CHECK(queue = mq_open(name, O_CREAT | O_EXCL | O_WRONLY, 0600, &attributes));
    sem_t *semaphore = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    if (semaphore == SEM_FAILED) { perror("sem_open"); return 1; }
    CHECK(v = shmget(IPC_PRIVATE, 4096, 0600));
    char *v_at = shmat(v, 0, 0);
    CHECK(v_at);
    CHECK(shmctl(v, IPC_RMID, 0));
    CHECK(queue_v = msgget(IPC_PRIVATE, 0600));
    strcpy(at, "shared memory");
    strcpy(v_at, "System V");
    CHECK(mq_send(queue, "low", 3, 1));
    CHECK(mq_send(queue, "high", 4, 9));
    struct { long type; char text[16]; } message = { 1, "message" };
    CHECK(msgsnd(queue_v, &message, sizeof message.text, 0));
    printf("%d %d\n", v, queue_v);
    fflush(stdout);
    sem_wait(semaphore);
    puts(at);
    return 0;
}
C
cat >second.c <<'C'
#include "both.h"
int main(int count, char **words) {
    int memory, v, queue_v;
    mqd_t queue;
    char *at, text[100] = "", line[100] = "";
    unsigned priority;
    names(words);
    if (scanf("%d %d", &v, &queue_v) != 2) return 1;
    CHECK(memory = shm_open(name, O_RDWR, 0));
    CHECK(at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0));
    CHECK(queue = mq_open(name, O_RDONLY));
    puts(at);
    char *v_at = shmat(v, 0, 0);
    CHECK(v_at);
    puts(v_at);
    for (int n = 0; n < 2; n++) {
        memset(text, 0, sizeof text);
        CHECK(mq_receive(queue, text, sizeof text, &priority));
        printf("%s %u\n", text, priority);
    }
    struct { long type; char text[16]; } message;
    CHECK(msgrcv(queue_v, &message, sizeof message.text, 1, 0));
    CHECK(msgctl(queue_v, IPC_RMID, 0));
    puts(message.text);
    strcpy(at, "and back");
    sem_t *semaphore = sem_open(name, 0);
    if (semaphore == SEM_FAILED) { perror("sem_open"); return 1; }
    CHECK(shm_unlink(name));
    CHECK(mq_unlink(name));
    CHECK(sem_unlink(name));
    sem_post(semaphore);
    if (scanf(" %99[^\n]", line) == 1) puts(line);
    return 0;
}
C
gcc -o first first.c -lrt -pthread
gcc -o second second.c -lrt -pthread
mkfifo answers
./first $$ >answers & ./second $$ <answers
wait
