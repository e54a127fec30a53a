# Configure, build, test, install.
set -eu
mkdir project
cat >project/CMakeLists.txt <<'M'
cmake_minimum_required(VERSION 3.18)
project(hello C CXX)
find_package(Threads REQUIRED)
add_library(word SHARED word.c)
add_executable(hello main.cc)
target_link_libraries(hello word Threads::Threads)
enable_testing()
add_test(NAME runs COMMAND hello)
set_tests_properties(runs PROPERTIES PASS_REGULAR_EXPRESSION "hello")
install(TARGETS hello word)
M
echo 'const char *word(void) { return "hello"; }' >project/word.c
cat >project/main.cc <<'C'
#include <iostream>
extern "C" const char *word();
int main() { std::cout << word() << std::endl; }
C
cmake -S project -B build -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_RPATH='$ORIGIN/../lib' >log
grep -E 'compiler ABI info - done' log
cmake --build build -j4 >log
grep -c Built log
(cd build && ctest 2>&1 | grep 'tests passed')
cmake --install build --prefix "$HOME/installed" >/dev/null
installed/bin/hello
