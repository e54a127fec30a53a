# A server for SSH on the loopback, and what a client gets from it: commands, input, a terminal.
set -eu
dropbearkey -t ed25519 -f host >/dev/null 2>&1
mkdir -m 700 .ssh
dropbearkey -t ed25519 -f .ssh/id_dropbear 2>/dev/null | grep ^ssh- >.ssh/authorized_keys
chmod 600 .ssh/authorized_keys
dropbear -F -E -s -r host -P pid -p 127.0.0.1:2222 2>log &
trap 'kill $!' EXIT
at() { dbclient -y -y -p 2222 "$@" 2>>client; }
tries=0
until at localhost true; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { cat log client >&2; exit 1; }
    sleep 0.1
done
at localhost 'echo $((6 * 7)); uname -s; exit 0'
printf 'typed\n' | at localhost 'tr a-z A-Z'
at localhost 'exit 7' || echo $?
script -qec "dbclient -y -y -p 2222 -t localhost 'test -t 0 && test -t 1 && echo terminal'" /dev/null \
    </dev/null 2>&1 | grep -a -o terminal
seq 100000 | at localhost cat | md5sum
# Writes:
# 42
# Linux
# TYPED
# 7
# terminal
# dea9193b768319cbb4ff1a137ac03113  -
