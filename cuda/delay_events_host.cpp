// Delayed sums event by event: an input that is not 0 adds its column of the kernel to the sums of the steps to come.
//
// The columns are sparse. Input i owns the entries first[i] to first[i + 1]: a weight, and its place lag * out + o among
// the sums of the K steps from now on. Work grows with the events and the taps that are not 0, not with K in out.

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

// Kernel h: [K, out, in / groups], tap k is the delay K - 1 - k. Calls f(i, place, value) for what is not 0, by lag.
template <typename Real, typename F>
void each_entry(const Real* h, int64_t K, int64_t out, int64_t per_group, int64_t groups, F f) {
  for (int64_t lag = 0; lag < K; lag++) {
    for (int64_t o = 0; o < out; o++) {
      const Real* row = h + ((K - 1 - lag) * out + o) * per_group;
      const int64_t first = o / (out / groups) * per_group;
      for (int64_t j = 0; j < per_group; j++)
        if (row[j] != 0) f(first + j, lag * out + o, row[j]);
    }
  }
}

// What stays the same from chunk to chunk of a stream, in the order of delay_events.py: a call names it by its address.
//
// The line: sums [B, rows, out], of which at[b] is the row that is due in sample b, and K rows are in use. They wander
// down the memory and go back to its top once in rows - K + 1 steps; rows that are not in use are 0.
template <typename Real>
struct Stream {
  const int64_t* first;
  const int32_t* place;
  const Real* weight;
  Real* sums;
  int64_t* at;
  int64_t T, B, C, out, K, rows;
};

template <typename Real>
void step_through(const Stream<Real>& stream, const Real* x, Real* y) {
  const auto [first, place, weight, sums, at, T, B, C, out, K, rows] = stream;
  for (int64_t b = 0; b < B; b++) {
    Real* top = sums + b * rows * out;
    for (int64_t t = 0; t < T; t++, at[b]++) {
      Real* now = top + at[b] * out;
      if (at[b] + K > rows) {
        std::copy_n(now, (K - 1) * out, top);  // the one that would be next is not in use yet
        std::fill_n(top + (K - 1) * out, (rows - K + 1) * out, Real(0));
        at[b] = 0, now = top;
      }
      const Real* row = x + (t * B + b) * C;
      for (int64_t i = 0; i < C; i++) {
        const Real value = row[i];
        if (value == 0) continue;
        // No vectors: no two entries share a place, but gathering and scattering 16 of them is slower than one by one.
#pragma GCC unroll 8
        for (int64_t e = first[i]; e < first[i + 1]; e++) now[place[e]] += weight[e] * value;
      }
      std::copy_n(now, out, y + (t * B + b) * out);
      std::fill_n(now, out, Real(0));
    }
  }
}

}  // namespace

#define EXPORT(Real)                                                                                                  \
  extern "C" void delay_count_##Real(const Real* h, int64_t* count, int64_t K, int64_t out, int64_t per_group,        \
                                     int64_t groups) {                                                                \
    each_entry(h, K, out, per_group, groups, [=](int64_t i, int64_t, Real) { count[i]++; });                          \
  }                                                                                                                   \
  extern "C" void delay_fill_##Real(const Real* h, const int64_t* first, int32_t* place, Real* weight, int64_t K,     \
                                    int64_t out, int64_t per_group, int64_t groups) {                                 \
    std::vector<int64_t> next(first, first + per_group * groups);                                                     \
    each_entry(h, K, out, per_group, groups, [&](int64_t i, int64_t at, Real value) {                                 \
      place[next[i]] = int32_t(at);                                                                                   \
      weight[next[i]++] = value;                                                                                      \
    });                                                                                                               \
  }                                                                                                                   \
  extern "C" void delay_events_##Real(const Stream<Real>* stream, const Real* x, Real* y) {                           \
    step_through(*stream, x, y);                                                                                      \
  }

EXPORT(float)
EXPORT(double)
