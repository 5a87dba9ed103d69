// The small product inside the recurrent loop: a few rows times a square matrix that was packed once for all steps.
//
// A library's product packs its matrix again at each call and meets all threads twice; in a loop over time that is most
// of its cost. Here a thread keeps its own rows through all steps. Sums run over the sources in one order, whatever the
// number of rows: a sample does not see its batch mates, to the last bit. Sources that are silent in all rows of a block
// are skipped, which changes no bit either.

namespace {

typedef real Vector __attribute__((vector_size(64)));
typedef real Loose __attribute__((vector_size(64), aligned(4), may_alias));   // a vector anywhere in memory
constexpr int64_t kVector = 64 / (int64_t)sizeof(real);
constexpr int64_t kPanel = 2 * kVector;   // columns of a panel: with kBlock rows its sums fill 16 registers
constexpr int64_t kBlock = 8;             // rows of a block

inline int64_t padded(int64_t lanes) { return parts(lanes, kPanel) * kPanel; }

// packed[panel][source][kPanel] from matrix[source * source_step + column * column_step]; columns beyond n are 0.
void pack(const real *matrix, int64_t source_step, int64_t column_step, int64_t n, real *packed) {
  for (int64_t panel = 0; panel * kPanel < n; panel++)
    for (int64_t source = 0; source < n; source++)
      for (int64_t j = 0; j < kPanel; j++) {
        const int64_t column = panel * kPanel + j;
        packed[(panel * n + source) * kPanel + j] =
            column < n ? matrix[source * source_step + column * column_step] : (real)0;
      }
}

#if defined(__clang__)
#define SNN_CONTRACT
#else
#define SNN_CONTRACT __attribute__((optimize("fp-contract=fast"), noinline))
#endif

// Rows times one panel: into[row * stride + 0 .. kPanel - 1], over the sources that are listed.
template <int rows>
SNN_CONTRACT void rows_times_panel(const real *__restrict values, const int32_t *__restrict sources, int64_t count,
                                   const real *__restrict panel, real *__restrict into, int64_t stride) {
#if defined(__clang__)
#pragma clang fp contract(fast)
#endif
  Vector sums[rows][2] = {};
  for (int64_t i = 0; i < count; i++) {
    const Loose *const b = (const Loose *)(panel + sources[i] * kPanel);
    const Vector left = b[0], right = b[1];
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++) {
      const real value = values[i * kBlock + row];
      sums[row][0] += value * left;
      sums[row][1] += value * right;
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < rows; row++) {
    Loose *const out = (Loose *)(into + row * stride);
    out[0] = sums[row][0];
    out[1] = sums[row][1];
  }
}

// The sources that are not 0 in one of the rows of a block (all of them if the rows are not sparse by nature), and
// their values side by side, [source, kBlock].
int64_t listed(const real *a, int64_t a_row, int64_t rows, int64_t n, bool sparse, int32_t *sources, real *values) {
  int64_t count = 0;
  for (int64_t source = 0; source < n; source++) {
    bool heard = !sparse;
    for (int64_t row = 0; row < rows; row++) {
      const real value = a[row * a_row + source];
      values[count * kBlock + row] = value;
      heard |= !(value == 0);
    }
    sources[count] = (int32_t)source;
    count += heard;
  }
  return count;
}

// What a thread needs for the products of its rows.
struct Scratch {
  real *values, *into;      // [blocks, n, kBlock]; [rows, padded(n)]
  int64_t *counts;          // [blocks]
  int32_t *sources;         // [blocks, n]
  Scratch(int64_t rows, int64_t n) {
    const int64_t blocks = parts(rows, kBlock), reals = parts(blocks * n * kBlock + rows * padded(n), 8) * 8;
    values = workspace(reals + parts(blocks * (n + 2) * 4, sizeof(real)) + 8);
    into = values + blocks * n * kBlock;
    counts = (int64_t *)(values + reals);
    sources = (int32_t *)(counts + blocks);
  }
};

// into[row][0 .. n - 1] = a[row] . matrix, for rows that lie side by side; a panel serves all rows before the next one.
void product(const real *a, int64_t rows, int64_t n, const real *packed, bool sparse, const Scratch &scratch) {
  const int64_t stride = padded(n), blocks = parts(rows, kBlock);
  for (int64_t block = 0; block < blocks; block++)
    scratch.counts[block] =
        listed(a + block * kBlock * n, n, std::min(kBlock, rows - block * kBlock), n, sparse,
               scratch.sources + block * n, scratch.values + block * n * kBlock);
  for (int64_t column = 0; column < n; column += kPanel)
    for (int64_t block = 0; block < blocks; block++) {
      const int64_t first = block * kBlock, left = std::min(kBlock, rows - first), count = scratch.counts[block];
      const int32_t *sources = scratch.sources + block * n;
      const real *values = scratch.values + block * n * kBlock, *panel = packed + column * n;
      real *into = scratch.into + first * stride + column;
      if (left == kBlock)
        rows_times_panel<kBlock>(values, sources, count, panel, into, stride);
      else
        for (int64_t row = 0; row < left; row++)
          rows_times_panel<1>(values + row, sources, count, panel, into + row * stride, stride);
    }
}

}  // namespace
