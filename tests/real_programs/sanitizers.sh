# A leak, a use after free and a race are found, and what is right is left alone.
set -eu
cat >a.c <<'C'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static int shared;
static void *add(void *nothing) { for (int n = 0; n < 1000; n++) shared++; return nothing; }
static char *volatile kept;
int main(int count, char **words) {
    pthread_t a, b;
    switch (words[1][0]) {
    case 'l': kept = malloc(10); kept = 0; return 0;
    case 'f': kept = malloc(10); free(kept); return kept[3];
    case 'r':
        pthread_create(&a, 0, add, 0); pthread_create(&b, 0, add, 0);
        pthread_join(a, 0); pthread_join(b, 0); return 0;
    default: puts("right"); return 0;
    }
}
C
gcc -g -fsanitize=address -o address a.c
gcc -g -fsanitize=thread -o thread a.c
./address nothing
./thread nothing
(./address leak 2>&1 || true) | grep -o 'LeakSanitizer: detected memory leaks'
(./address free 2>&1 || true) | grep -o 'AddressSanitizer: heap-use-after-free' | head -n 1
(./thread race 2>&1 || true) | grep -o 'ThreadSanitizer: data race' | head -n 1
