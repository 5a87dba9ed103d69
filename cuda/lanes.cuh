// Groups of neighbouring lanes on the GPU: their types in memory, and how a thread loads and stores them.
//
// `io` is the number type in memory, `real` the one that is computed with. A thread holds kWidth lanes; addresses are
// multiples of kWidth numbers, so that a group moves in one piece of up to 16 bytes.

typedef long long int64_t;

struct half { unsigned short bits; };
struct bfloat16 { unsigned short bits; };

SNN_INLINE float to_real(float a) { return a; }
SNN_INLINE double to_real(double a) { return a; }
SNN_INLINE float to_real(half a) { float r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(a.bits)); return r; }
SNN_INLINE float to_real(bfloat16 a) { return __int_as_float((int)a.bits << 16); }

// Rounded to nearest, ties to even, as torch does.
SNN_INLINE void from_real(float a, float &to) { to = a; }
SNN_INLINE void from_real(double a, double &to) { to = a; }
SNN_INLINE void from_real(float a, half &to) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(a)); }
SNN_INLINE void from_real(float a, bfloat16 &to) {
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(a));
#else
  const unsigned bits = __float_as_uint(a);
  to.bits = a != a ? 0x7fff : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
#endif
}

template <int bytes> struct Piece { struct alignas(16) type { uint4 part[bytes / 16]; }; };
template <> struct Piece<8> { typedef uint2 type; };
template <> struct Piece<4> { typedef unsigned type; };
template <> struct Piece<2> { typedef unsigned short type; };

// kWidth numbers of memory in registers.
template <typename number> union Group {
  typename Piece<kWidth * sizeof(number)>::type piece;
  number lane[kWidth];
  unsigned word[(kWidth * sizeof(number) + 3) / 4];
  __device__ Group() {}
};

template <typename number> SNN_INLINE Group<number> load(const number *from) {
  Group<number> group;
  group.piece = *(const typename Piece<kWidth * sizeof(number)>::type *)from;
  return group;
}

template <typename number> SNN_INLINE void store(const Group<number> &group, number *to) {
  *(typename Piece<kWidth * sizeof(number)>::type *)to = group.piece;
}

// The group of some values, rounded; 16-bit numbers in pairs, four times as fast as one by one.
template <typename number> SNN_INLINE Group<number> rounded(const real (&values)[kWidth]) {
  Group<number> group;
#pragma unroll
  for (int i = 0; i < kWidth; i++) from_real(values[i], group.lane[i]);
  return group;
}

#if __CUDA_ARCH__ >= 800
#define ROUNDED_IN_PAIRS(number, instruction)                                                     \
  template <> __device__ __forceinline__ Group<number> rounded<number>(const real (&values)[kWidth]) { \
    Group<number> group;                                                                          \
    if (kWidth == 1) from_real((float)values[0], group.lane[0]);                                  \
    _Pragma("unroll") for (int i = 0; i + 1 < kWidth; i += 2)                                     \
      asm(instruction " %0, %1, %2;" : "=r"(group.word[i / 2]) : "f"((float)values[i + 1]), "f"((float)values[i])); \
    return group;                                                                                 \
  }
ROUNDED_IN_PAIRS(half, "cvt.rn.f16x2.f32")
ROUNDED_IN_PAIRS(bfloat16, "cvt.rn.bf16x2.f32")
#endif
