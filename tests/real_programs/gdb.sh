# A program is stopped, looked at, changed and let go on; one that runs already is looked at.
set -eu
cat >a.c <<'C'
#include <stdio.h>
#include <unistd.h>
int answer = 1;
static void told(void) { printf("%d\n", answer); fflush(stdout); }
int main(int count, char **words) {
    if (count > 1) { fclose(fopen(words[1], "w")); for (;;) pause(); }
    told();
    return 0;
}
C
gcc -g -o a a.c
gdb -nx -batch -ex 'break told' -ex run -ex bt -ex 'set var answer = 42' -ex continue ./a 2>&1 |
    grep -E '^#|^42|exited normally' | sed 's/0x[0-9a-f]* //; s/words=[^)]*/words/; s/process [0-9]*/process/'
./a ready & other=$!
until [ -e ready ]; do sleep 0.05; done
gdb -nx -batch -p "$other" -ex 'print answer + 10' ./a 2>/dev/null | grep '= 11$'
kill "$other"
# Its addresses are the same each time.
for time in 1 2; do
    gdb -nx -batch -ex 'break main' -ex run -ex 'print &answer' ./a 2>/dev/null | grep answer
done
