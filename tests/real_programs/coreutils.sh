# Files of all kinds, modes, times, links, and what prints them.
set -eu
mkdir -p a/b
printf '%s\n' one two three >a/b/file
ln -s b/file a/link
ln a/b/file a/hard
mkfifo a/fifo
chmod 640 a/b/file
touch -d '2001-02-03 04:05:06 UTC' a/b/file
stat -c '%A %h %s %F' a/b/file a/link a/fifo
stat -c %Y a/b/file
cp -a a copy
find copy | sort
readlink -f copy/link | sed 's,.*/copy,copy,'
truncate -s 1M sparse
dd if=/dev/zero of=full bs=64k count=4 status=none
du --apparent-size -k full
sha256sum full a/b/file
seq 100000 | shuf --random-source=full | sort -n | md5sum
date -u -d @0 +%F
split -n 3 a/b/file part.
cat part.* | cmp - a/b/file
timeout 10 sleep 0 && nproc | grep -cE '^[0-9]+$'
env -i /usr/bin/env | wc -l
df --output=target . | tail -1 | grep -c /
rm "$(mktemp)" && echo temporary
