# More than fits into its memory, so that it writes temporary files and merges them.
set -eu
seq 400000 | awk '{ print ($1 * 7919) % 400009, "some words to make the line longer" }' >unsorted
sort -S 1M --parallel=2 -n unsorted >sorted
sort -c -n sorted
sort -S 1M --compress-program=gzip -n unsorted | cmp - sorted
md5sum sorted
