# C and C++, with the sanitizer of undefined behaviour.
set -eu
cat >main.c <<'C'
#include <stdio.h>
int main(int count, char **words) {
    printf("%d %s %s\n", count, words[1], __clang__ ? "clang" : "");
    return 0;
}
C
clang -Wall -O2 main.c -o main
./main word
cat >main.cc <<'C'
#include <algorithm>
#include <iostream>
#include <vector>
int main() {
    std::vector<int> all{3, 1, 2};
    std::sort(all.begin(), all.end());
    for (int one : all) std::cout << one;
    std::cout << std::endl;
}
C
clang++ -std=c++17 -fsanitize=undefined -fsanitize-trap=all main.cc -o sorted
./sorted
clang -S -emit-llvm -o - main.c | grep -c '@main'
