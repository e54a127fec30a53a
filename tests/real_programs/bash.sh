# Process substitution, coprocesses, pipelines, traps, here documents, sockets of bash's own.
set -eu
bash -eu -o pipefail <<'B'
diff <(printf '%s\n' b a | sort) <(printf '%s\n' a b) && echo same
coproc UP { tr a-z A-Z; }
exec 4<&"${UP[0]}" 5>&"${UP[1]}" {UP[1]}>&-
echo word >&5
exec 5>&-
cat <&4
declare -A table=([one]=1 [two]=2)
echo $((table[one] + table[two])) "${BASHPID:+pid}"
trap 'echo trapped' USR1
kill -USR1 $$
(trap 'echo left' EXIT)
printf '%s\n' {1..3} | mapfile -t all || true
sleep 0 & wait $!
echo ~ | grep -c "^$HOME$"
[[ $(ulimit -n) -ge 64 ]] && echo limits
B
