// Calls the library that build.py writes from several C++ threads at once.
//
//   python build.py
//   c++ -std=c++17 mlp.cpp -L. -lmlp -Wl,-rpath,'$ORIGIN' -pthread -o mlp_cpp && ./mlp_cpp
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "mlp.h"

constexpr std::int64_t inputs = 64, classes = 10;

std::vector<float> predict(const std::vector<float> &x) {
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / inputs;
  std::vector<float> out(static_cast<std::size_t>(rows * classes));
  if (mlp(x.data(), out.data(), rows) != GML_OK) throw std::runtime_error(gml_mlp_last_error());
  return out;
}

int main() {
  std::vector<float> x(static_cast<std::size_t>(300 * inputs));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) / 8.0f - 1.0f;
  const std::vector<float> expected = predict(x);
  if (!predict({}).empty()) return 1;

  std::vector<double> worst(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < worst.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int repeat = 0; repeat < 50; ++repeat) {
        const std::vector<float> out = predict(x);
        for (std::size_t i = 0; i < out.size(); ++i)
          worst[t] = std::max(worst[t], std::fabs(double(out[i]) - double(expected[i])));
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  const double most = *std::max_element(worst.begin(), worst.end());
  std::printf("%zu threads, largest difference %g\n", threads.size(), most);
  return most == 0 ? 0 : 1;
}
