# Two files, a static library of one's own, libm, optimisation and link-time optimisation.
set -eu
mkdir src lib
cat >src/root.c <<'C'
#include <math.h>
double root(double of) { return sqrt(of); }
C
cat >src/main.c <<'C'
#include <locale.h>
#include <stdio.h>
#include <threads.h>
double root(double of);
static int work(void *to) { *(double *)to = root(2.0); return 0; }
int main(void) {
    thrd_t thread;
    double result = 0;
    if (!setlocale(LC_ALL, "")) return 1;
    if (thrd_create(&thread, work, &result) || thrd_join(thread, NULL)) return 2;
    printf("%.9f\n", result);
    return 0;
}
C
gcc -Wall -Werror -O2 -flto -c src/root.c -o root.o
gcc-ar rcs lib/libroot.a root.o
gcc -Wall -Werror -O2 -flto src/main.c -Llib -lroot -lm -pthread -o root
./root
gcc -g -fPIC -shared src/root.c -o lib/libshared.so -lm
gcc src/main.c -Llib -lshared -Wl,-rpath,"$PWD/lib" -o shared
./shared
cc -pipe -x c -S -o - src/root.c | grep -c sqrt
echo 'int main(void) { return missing; }' >bad.c
gcc bad.c -o bad 2>&1 | grep -c 'missing.*undeclared'
