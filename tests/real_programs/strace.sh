# The calls of a program and of what it starts, and of one that runs already.
set -eu
strace -f -e trace=execve,unlink,unlinkat -o calls sh -c 'touch file; rm file; true'
grep -c 'execve(.* = 0' calls
grep -c 'unlink.*"file".* = 0' calls
strace -c -o table true
grep -c total table
sleep 100 & other=$!
# Asleep by then: else nothing is resumed.
until grep -q sleep /proc/$other/comm && grep -q '^State:.S' /proc/$other/status; do sleep 0.05; done
strace -p "$other" -o attached & tracer=$!
until grep -q resuming attached; do sleep 0.05; done
kill "$tracer"
wait "$tracer" || true
grep -c resuming attached
kill "$other"
