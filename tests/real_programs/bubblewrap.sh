# A sandbox in the sandbox: what it shows, and what it has of its own.
set -eu
bwrap --unshare-all --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib \
    --symlink usr/lib64 /lib64 --dev /dev --tmpfs /tmp --hostname inner \
    sh -c 'uname -n; touch /tmp/file; ls /tmp; ls /; touch /usr/file 2>/dev/null || echo read-only'
