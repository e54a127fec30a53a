# What is there, and how much memory.
set -eu
ps -o comm= -p $$
ps -e | grep -c ' ps$'
free -b | awk '/^Mem:/ { print ($2 > 0) }'
uptime | grep -c 'load average'
top -b -n 1 -p $$ | grep -c '^%Cpu\|^MiB Mem'
