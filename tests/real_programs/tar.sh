# An archive with every kind of entry, compressed by each program, taken apart and compared.
set -eu
mkdir -p tree/sub
seq 20000 >tree/numbers
ln -s numbers tree/link
ln tree/numbers tree/sub/hard
mkfifo tree/fifo
truncate -s 10M tree/sparse
chmod 4711 tree/numbers
tar -cSf all.tar --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 tree
md5sum all.tar
for program in gzip bzip2 xz; do
    command -v $program >/dev/null || continue
    mkdir out.$program
    tar -cf - tree | $program | $program -d | tar -xpf - -C out.$program
    diff -r --no-dereference -x fifo tree out.$program/tree
    stat -c '%A %h %s' out.$program/tree/numbers
done
tar --diff -f all.tar --exclude=fifo 2>&1 | grep -v 'Uid\|Gid\|Mod time' || true
