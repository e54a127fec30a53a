# Forty objects at a time, the inner make a client of the outer one's job server.
set -eu
mkdir part
for n in $(seq 40); do
    echo "int f$n(void) { return $n; }" >"part/f$n.c"
done
{
    seq 40 | sed 's/.*/int f&(void);/'
    echo '#include <stdio.h>'
    echo 'int main(void) { printf("%d", 0'
    seq 40 | sed 's/.*/+ f&()/'
    echo '); return !puts(""); }'
} >main.c
cat >Makefile <<'M'
all: main
	@./main
main: main.o part/part.a
	@$(CC) -o $@ $^
main.o: main.c
	@$(CC) -c -o $@ $<
part/part.a: always
	@+$(MAKE) --no-print-directory -C part part.a
.PHONY: all always
M
cat >part/Makefile <<'M'
objects := $(patsubst %.c,%.o,$(sort $(wildcard *.c)))
part.a: $(objects)
	@$(AR) rcs $@ $^
%.o: %.c
	@$(CC) -c -o $@ $<
M
make -j8
make -j8
ls part/*.o | wc -l
