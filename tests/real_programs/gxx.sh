# Exceptions, threads, the file system library, streams.
set -eu
cat >main.cc <<'C'
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <thread>
#include <vector>
int main() {
    std::vector<long> parts(4);
    std::vector<std::thread> threads;
    for (long at = 0; at < 4; at++)
        threads.emplace_back([&parts, at] { for (long n = 0; n < 1000; n++) parts[at] += n * at; });
    for (auto &thread : threads) thread.join();
    std::map<std::string, long> sums;
    for (auto part : parts) sums[std::to_string(part % 7)] += part;
    std::filesystem::create_directories("out/deep");
    std::ofstream("out/deep/file") << "text";
    for (auto &[key, sum] : sums) std::cout << key << ' ' << sum << '\n';
    std::cout << std::filesystem::file_size("out/deep/file") << '\n';
    try { throw std::runtime_error("caught"); } catch (const std::exception &error) {
        std::cout << error.what() << '\n';
    }
}
C
g++ -std=c++17 -Wall -O1 main.cc -pthread -o main
./main
